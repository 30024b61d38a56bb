"""When Python looks for garbage in cycles.

Every call leaves cycles, and in them what the C library holds for it, such as an encoder with 0.4 MB. By default Python
looks through all objects once the new ones are a quarter of the old ones. A gateway has 110,000 old ones: that is after
some 300 calls, takes up to 0.2 s on a busy core, and no stream goes on meanwhile.
"""

from __future__ import annotations

import gc

THRESHOLDS = (700, 10, 2)  # Python's own but for the last: collections of the middle generation for each full one


def look_at_new_objects_only() -> None:
    """From now on full collections pass over all that there is now, and are more frequent.

    Call it once, when all is loaded: what has cycles now is never freed.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # what this one leaves, nothing, is what new objects must be a quarter of
    gc.set_threshold(*THRESHOLDS)
