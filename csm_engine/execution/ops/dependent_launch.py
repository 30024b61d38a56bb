"""Programmatic dependent launch: a kernel may start while the previous kernel of the stream still runs.

Until `await_inputs` returns, a kernel may read only weights: the previous kernel's output is not written yet. Output of
earlier kernels is, since each kernel waits before it lets the next one start. Importing needs triton.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

# ruff: noqa: N803  (constexpr arguments are upper case, as is Triton's custom)


@triton.jit
def await_inputs(PDL: tl.constexpr):
    """Waits until the previous kernel has ended, then lets the next one start. PDL: launched dependently."""
    if PDL:
        gdc_wait()
        gdc_launch_dependents()
