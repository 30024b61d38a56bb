"""Faults under running streams, in real processes: `python -m bench.chaos`."""
