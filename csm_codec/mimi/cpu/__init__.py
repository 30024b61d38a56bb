"""Mimi's decoder on a CPU, in few passes over memory."""
