"""The built-in voice with rounded products: word error rate, and codes that stay the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.eight_bit_rows.rounding import Arm, packed_as, rows_rounded
from csm_engine.types import Codes, Segment
from recipes.builtin_voice.evaluation.recognizer import recognize_all
from recipes.builtin_voice.evaluation.sets import EvaluationText
from recipes.builtin_voice.evaluation.voice import Saying, Voice

SPEAKERS = 2
DRAWS = 10_000  # bootstrap samples of the texts, for the interval of a difference
Counts = list[tuple[int, int]]  # (wrong words, words) of each utterance


class RoundedVoice:
    """A bundle's voice whose products round like the arm."""

    def __init__(self, bundle: Path, arm: Arm) -> None:
        self._voice = Voice(bundle, packed=partial(packed_as, arm=arm))
        self._recommended = self._voice.temperature, self._voice.top_k

    def say(self, texts: Sequence[EvaluationText], *, first_seed: int = 0, greedy: bool = False) -> list[Saying]:
        """Speaks the texts with alternating speakers; text i has the seed first_seed + i."""
        self._voice.temperature, self._voice.top_k = (0.0, 1) if greedy else self._recommended
        requests = [[Segment(at % SPEAKERS, text.text)] for at, text in enumerate(texts)]
        with rows_rounded():
            return self._voice.say(requests, first_seed=first_seed)

    def errors(self, sayings: Sequence[Saying], texts: Sequence[EvaluationText]) -> Counts:
        heard = recognize_all(None, [saying.pcm for saying in sayings], self._voice.sample_rate_hz, processes=1)
        return [text.word_errors(words) for text, words in zip(texts, heard, strict=True)]


def rates(counts: Counts, today: Counts) -> dict[str, object]:
    """The word error rate, and the change of it with its 95 % bootstrap interval over the texts."""
    ours, theirs = np.array(counts), np.array(today)
    drawn = np.random.default_rng(0).integers(0, len(ours), (DRAWS, len(ours)))
    low, high = np.percentile(_share(ours[drawn]) - _share(theirs[drawn]), [2.5, 97.5])
    wrong, words = (int(count) for count in ours.sum(axis=0))
    return {
        "words": words,
        "wrong": wrong,
        "share": round(wrong / words, 4),
        "change": round(float(_share(ours) - _share(theirs)), 4),
        "change_low": round(float(low), 4),
        "change_high": round(float(high), 4),
    }


def same_codes(sayings: Sequence[Saying], today: Sequence[Saying]) -> dict[str, object]:
    """Share of codes equal to today's before a saying's first unlike one, of those and the unlike ones; share of the
    sayings that are today's to the last code.
    """
    leading = [_leading(ours.codes, theirs.codes) for ours, theirs in zip(sayings, today, strict=True)]
    whole = [np.array_equal(ours.codes, theirs.codes) for ours, theirs in zip(sayings, today, strict=True)]
    same, unlike = sum(leading), len(whole) - sum(whole)
    return {"same_codes": round(same / (same + unlike), 4), "same_sayings": round(sum(whole) / len(whole), 4)}


def _leading(ours: Codes, theirs: Codes) -> int:
    frames = min(len(ours), len(theirs))
    unlike = np.flatnonzero((ours[:frames] != theirs[:frames]).ravel())
    return int(unlike[0]) if len(unlike) else frames * ours.shape[1]


def _share(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The word error rate. counts: (..., texts, 2), wrong words and words."""
    summed = counts.sum(axis=-2)
    return summed[..., 0] / summed[..., 1]
