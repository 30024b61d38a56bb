"""The settings of Python's cyclic garbage collector.

Every call leaves reference cycles that hold native memory, such as an encoder with 0.4 MB. By default a full collection
runs once new objects are a quarter of the old ones. A gateway has 110,000 old objects, so that happens after some 300
calls, takes up to 0.2 s on a busy core, and stops every stream meanwhile.
"""

from __future__ import annotations

import gc

THRESHOLDS = (700, 10, 2)  # the last, not Python's default: collections of the middle generation per full collection


def freeze_present_objects() -> None:
    """Excludes all present objects from later collections, and makes full collections more frequent.

    To be called once, after everything is loaded: present cycles are never freed.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # resets the number of old objects, of which new ones must be a quarter, to zero
    gc.set_threshold(*THRESHOLDS)
