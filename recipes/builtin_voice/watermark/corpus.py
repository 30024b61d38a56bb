"""The audio for training and evaluation, made once and stored in one file for each split.

A clip of speech is one or two sentences of its split. Clips are 16-bit, mono, 24 kHz.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from csm_codec.resample import Pcm
from recipes.builtin_voice.sentences import Split, sentences
from recipes.builtin_voice.speech import SAMPLE_RATE_HZ, VOICES, speak
from recipes.builtin_voice.watermark.sounds import chords, coloured_noise, untrained_speech

LEAST_SECONDS = 3.1
SEEDS: dict[Split, int] = {"train": 1, "held-out": 1_000_001}


@dataclass(frozen=True, slots=True)
class Corpus:
    """Clips by kind."""

    clips: dict[str, list[Pcm]]


def open_corpus(folder: Path, split: Split, *, speech_clips: int, other_clips: int) -> Corpus:
    """Makes the clips unless the folder holds them. other_clips: of each kind that is not speech."""
    return kept(folder / f"{split}-{speech_clips}-{other_clips}.npz", lambda: _make(split, speech_clips, other_clips))


def kept(path: Path, make: Callable[[], Iterable[tuple[str, Pcm]]]) -> Corpus:
    """The clips in the file. If it does not exist, `make` yields (kind, clip), which are stored there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        clips = list(make())
        pcm = np.concatenate([clip for _, clip in clips])
        draft = path.with_suffix(".new.npz")
        np.savez(
            draft,
            kinds=np.array([kind for kind, _ in clips]),
            lengths=np.array([len(clip) for _, clip in clips]),
            pcm=np.round(pcm.clip(-1, 1) * 32767).astype(np.int16),
        )
        draft.rename(path)
    with np.load(path) as file:
        pieces = np.split(file["pcm"], np.cumsum(file["lengths"])[:-1])
        kinds = file["kinds"].tolist()
    corpus = Corpus({kind: [] for kind in dict.fromkeys(kinds)})
    for kind, piece in zip(kinds, pieces, strict=True):
        corpus.clips[kind].append((piece / 32768).astype(np.float32))
    return corpus


def joined(sayings: Sequence[Pcm], least_seconds: float) -> list[Pcm]:
    """Joins utterances to clips of at least that many seconds, and drops a shorter rest."""
    clips: list[Pcm] = []
    pieces: list[Pcm] = []
    for pcm in sayings:
        pieces.append(pcm)
        if sum(map(len, pieces)) >= least_seconds * SAMPLE_RATE_HZ:
            clips.append(np.concatenate(pieces))
            pieces = []
    return clips


def _make(split: Split, speech_clips: int, other_clips: int) -> Iterator[tuple[str, Pcm]]:
    seed = SEEDS[split]
    source = sentences(split, seed)
    for index in range(speech_clips):
        if index % 100 == 0:
            print(f"{split}: {index} of {speech_clips} clips of speech", file=sys.stderr, flush=True)
        voice = VOICES[index % len(VOICES)]
        text = next(source)
        clip = speak(text, voice)
        while len(clip) < LEAST_SECONDS * SAMPLE_RATE_HZ:
            text += " " + next(source)
            clip = speak(text, voice)
        yield "speech", clip
    random = np.random.default_rng(seed)
    for _ in range(other_clips):
        yield "noise", coloured_noise(random, 4.0)
        yield "chords", chords(random, 4.0)
    for clip in untrained_speech(seed, other_clips, 4.0):
        yield "untrained", clip
