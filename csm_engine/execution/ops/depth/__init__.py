"""Kernels of the depth decoder: its attention, and its whole frame as one cooperative launch (experimental).

See docs/depth-decoder-kernel.md.
"""
