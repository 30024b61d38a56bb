"""Runs requests through an engine to their end."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from csm_engine.loop.engine import Engine
from csm_engine.types import Codes, GenerationRequest


def run_all(engine: Engine, requests: Iterable[GenerationRequest], *, steps_between: int = 0) -> dict[str, Codes]:
    """The codes of each request by its id: (frames, K). The requests are added `steps_between` steps apart."""
    frames: dict[str, list[Codes]] = {}

    def step() -> None:
        for output in engine.step():
            if output.frame is not None:
                frames.setdefault(output.sequence.request.request_id, []).append(output.frame)

    for item in requests:
        engine.add_request(item)
        for _ in range(steps_between):
            step()
    while engine.has_work:
        step()
    return {name: np.stack(made) for name, made in frames.items()}
