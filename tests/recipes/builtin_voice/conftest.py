"""Made-up tracks: no flite is needed."""

from __future__ import annotations

import numpy as np
import pytest

from recipes.builtin_voice.vocoder import FEATURES, PARTS, PULSES, Frames


def made_up_frames(count: int, seed: int = 0) -> Frames:
    """Spectra that wander, voiced in the first half, at pitches of six to twenty pulses."""
    random = np.random.default_rng(seed)
    cepstra = (
        random.normal(size=(count, 1, FEATURES - 5)) * 0.3 + random.normal(size=(count, PARTS, FEATURES - 5)) * 0.05
    )
    cepstra[..., 0] += 4
    strengths = np.full((count, PARTS, 5), 0.8)
    strengths[count // 2 :] = 0
    pulses = random.integers(PULSES[0], PULSES[-1] - 5, count)
    return Frames(cepstra.astype(np.float32), strengths.astype(np.float32), pulses, random.integers(-1, 2, count))


@pytest.fixture(scope="session")
def frames() -> Frames:
    return made_up_frames(400)
