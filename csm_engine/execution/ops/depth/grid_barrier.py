"""A barrier between all programs of one cooperative launch. Importing needs triton.

Every program must be running, or the others wait forever: launch with `launch_cooperative_grid=True`, which fails where
they do not fit on the device at once.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def wait_for_all(counter_ptr, program, programs, patience):
    """Returns when every program has arrived: what they wrote before is then seen by all.

    counter (1,) int32, zero at first: a barrier adds 2**31 to it, whatever the number of programs, so its highest bit
    turns when the last has arrived, the others stay zero, and nothing resets it. One launch at a time may use it.
    patience: how often to look, at most. What is left of it is returned; where that is 0, this barrier was given up,
    every later one is passed without waiting, and what is computed from then on is worthless.
    """
    added = tl.where(program == 0, tl.full((), 0x80000001, tl.uint32) - programs.to(tl.uint32), 1)
    tl.debug_barrier()  # all threads of this program have written
    before = tl.atomic_add(counter_ptr, added.to(tl.int32, bitcast=True), sem="acq_rel", scope="gpu")
    waiting = programs > 1
    while waiting & (patience > 0):
        waiting = (tl.atomic_add(counter_ptr, 0, sem="acquire", scope="gpu") ^ before) >= 0
        patience -= 1
    tl.debug_barrier()  # no thread goes on before the one that has looked
    return tl.where(waiting, 0, patience)
