"""Prompts of a prefill pass as Triton kernels, and their launches."""
