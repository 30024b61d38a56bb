"""Each process of a run rewrites the asserts of a share of the test files, before it collects them all.

pytest keeps what it has rewritten, beside the file. In a fresh clone, the processes of a run come to the same file at
the same time, and each would rewrite all files, which takes ten seconds of CPU time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest


def rewrite_share(config: pytest.Config, files: Sequence[Path]) -> None:
    """files: that all processes will read. Does nothing in a run of one process."""
    if not (share := getattr(config, "workerinput", None)) or sys.dont_write_bytecode:
        return
    try:
        from _pytest.assertion import rewrite
        from _pytest.assertion.rewrite import PYC_TAIL, _read_pyc, _rewrite_test, _write_pyc, get_cache_dir
    except ImportError:  # they are private to pytest; then each process rewrites all
        return
    if (state := config.stash.get(rewrite.assertstate_key, None)) is None or state.mode != "rewrite":
        return
    number, count = int(share["workerid"].removeprefix("gw")), share["workercount"]
    for file in files[number::count]:
        folder = get_cache_dir(file)
        kept = folder / (file.stem + PYC_TAIL)
        if _read_pyc(file, kept) is None and rewrite.try_makedirs(folder):
            digest, code = _rewrite_test(file, config)
            _write_pyc(state, code, digest, kept)
