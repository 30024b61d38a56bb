"""Prefill on a CPU."""
