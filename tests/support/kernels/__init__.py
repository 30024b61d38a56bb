"""Checks of kernels, on a device, in Triton's interpreter, and of the compiled code."""
