"""Programmatic dependent launch: a kernel may start while the one before it in the stream still runs.

Until `await_inputs` returns a kernel may read weights only: what the kernel before it writes is not there yet. What
kernels further back wrote is, since each waits before it lets the next one start. Importing needs triton.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)


@triton.jit
def await_inputs(PDL: tl.constexpr):
    """Returns when the kernel before this one has ended, and lets the next one start. PDL: launched dependently."""
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
