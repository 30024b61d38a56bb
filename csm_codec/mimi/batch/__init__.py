"""Mimi's decoder for a batch of fixed shape, as CUDA graphs hold it. It runs on any device."""
