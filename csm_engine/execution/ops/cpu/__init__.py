"""Frames of a small model on a CPU, compiled by numba."""
