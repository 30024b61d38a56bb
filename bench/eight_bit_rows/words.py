"""The built-in voice with rounded products: words understood, and codes that stay the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bench.eight_bit_rows.rounding import Arm, packed_as, rows_rounded
from csm_engine.types import Codes, Segment
from recipes.builtin_voice.evaluation.recognizer import hear_all
from recipes.builtin_voice.evaluation.sets import Judged
from recipes.builtin_voice.evaluation.voice import Saying, Voice

SPEAKERS = (0, 1)
DRAWS = 10_000  # of the texts, with replacement, for the interval of a difference
Counts = tuple[tuple[int, int], ...]  # wrong words and words, of each saying


def said(bundle: Path, arm: Arm, texts: Sequence[Judged], *, greedy: bool, first_seed: int = 0) -> list[Saying]:
    """Each text by both speakers, with the bundle's sampling or greedily; saying i has the seed first_seed + i."""
    options = {"temperature": 0.0, "top_k": 1} if greedy else {}
    voice = Voice(bundle, packed=partial(packed_as, arm=arm), **options)
    with rows_rounded():
        return voice.say([[Segment(who, text.text)] for text in texts for who in SPEAKERS], first_seed=first_seed)


def counted(sayings: Sequence[Saying], texts: Sequence[Judged], rate_hz: int) -> Counts:
    heard = hear_all(None, [saying.pcm for saying in sayings], rate_hz, processes=1)
    asked = [text for text in texts for _ in SPEAKERS]
    return tuple(text.word_errors(words) for text, words in zip(asked, heard, strict=True))


def rates(counts: Counts, today: Counts) -> dict[str, object]:
    """Share of the words that are wrong, by speaker too; its change, with the interval that holds 95 of 100 drawings
    of the texts.
    """
    ours, theirs = (np.array(one).reshape(-1, len(SPEAKERS), 2) for one in (counts, today))
    drawn = np.random.default_rng(0).integers(0, len(ours), (DRAWS, len(ours)))
    changes = _share(ours.sum(axis=1)[drawn]) - _share(theirs.sum(axis=1)[drawn])
    low, high = np.percentile(changes, [2.5, 97.5])
    women, men = (float(_share(ours[:, who])) for who in SPEAKERS)
    return {
        "wrong": round(float(_share(ours.sum(axis=1))), 4),
        "woman": round(women, 4),
        "man": round(men, 4),
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


def _share(counts: np.ndarray) -> np.ndarray:
    """counts: (..., texts, 2), wrong words and words."""
    summed = counts.sum(axis=-2)
    return summed[..., 0] / summed[..., 1]
