"""Stages as processes of this machine, for benchmarks and for programs that disturb them. It measures nothing."""
