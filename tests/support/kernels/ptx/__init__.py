"""Runs compiled kernels (Triton's PTX for sm_90) on a CPU, and so checks what the compiler made of a source.

A warp is a vector of 32 lanes. Copies and products that a device runs beside the program are as late here as they may
be, and what they have not finished is not there: see memory.py and tensor_cores.py. What ptxas makes of PTX, caches and
weak order of memory between programs are not seen.
"""
