"""The audio to train on and to judge by, made once and kept as one file for each split.

A clip of speech is one or two sentences of its split. Clips are 16-bit, mono, 24 kHz.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from csm_codec.resample import Pcm
from recipes.builtin_voice.sentences import Split, sentences
from recipes.builtin_voice.speech import SAMPLE_RATE_HZ, VOICES, speak
from recipes.builtin_voice.watermark.sounds import chords, coloured_noise, untrained_speech

LEAST_SECONDS = 3.1
KINDS = ("speech", "noise", "chords", "untrained")
SEEDS: dict[Split, int] = {"train": 1, "held-out": 1_000_001}


@dataclass(frozen=True, slots=True)
class Corpus:
    """Clips by kind."""

    clips: dict[str, list[Pcm]]


def open_corpus(folder: Path, split: Split, *, speech_clips: int, other_clips: int) -> Corpus:
    """Makes the clips unless the folder holds them. other_clips: of each kind that is not speech."""
    path = folder / f"{split}-{speech_clips}-{other_clips}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        clips = [(kind, clip) for kind, clip in _make(split, speech_clips, other_clips)]
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
    pcms = [(piece / 32768).astype(np.float32) for piece in pieces]
    return Corpus({kind: [pcm for pcm, its in zip(pcms, kinds, strict=True) if its == kind] for kind in KINDS})


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
