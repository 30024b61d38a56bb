"""Benchmarks: every figure is a ratio of arms that ran in one process, interleaved, after a correctness gate."""
