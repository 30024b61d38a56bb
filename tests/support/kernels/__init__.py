"""Checks of kernels that run on the device and in the interpreter."""
