"""Texts said by every voice of flite, and what is said when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from recipes.builtin_voice.flite import TRACK_SECONDS, VOICES, Utterance, tracks_of
from recipes.builtin_voice.vocoder import PARTS

LONGEST_SECONDS = 10.0


def speak(chosen: Iterable[str]) -> Iterator[tuple[str, int, Utterance]]:
    """Every text by every voice; texts that are too long in one of them are left out."""
    for text in chosen:
        utterances = [tracks_of(text, voice) for voice in VOICES]
        if all(len(utterance.pitch_hz) * TRACK_SECONDS < LONGEST_SECONDS for utterance in utterances):
            for voice, utterance in enumerate(utterances):
                yield text, voice, utterance


def phones_of(utterance: Utterance, num_frames: int, names: list[str]) -> npt.NDArray[np.int64]:
    """(num_frames, PARTS) what is being said, an index into names. Raises ValueError for a phone that is not there."""
    ends = np.array([phone.end_seconds for phone in utterance.phones])
    middle = (np.arange(num_frames * PARTS) + 0.5) * TRACK_SECONDS
    which = np.minimum(np.searchsorted(ends, middle), len(ends) - 1)
    ids = np.array([names.index(phone.name) for phone in utterance.phones])
    return ids[which].reshape(num_frames, PARTS)
