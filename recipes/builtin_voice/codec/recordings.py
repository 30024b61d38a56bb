"""The encoder's training data: recordings with the latents that they stand for.

Half of the clips are flite's own speech, half the locked vocoder's, which comes back as context. Clips of flite begin
anywhere. All clips come at several loudnesses; the latents follow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from csm_codec.resample import Pcm, resample
from recipes.builtin_voice import flite
from recipes.builtin_voice.codec.quantizer import Quantizer
from recipes.builtin_voice.flite import TRACK_SECONDS, VOICES, Utterance, utter
from recipes.builtin_voice.sentences import Split
from recipes.builtin_voice.texts import texts
from recipes.builtin_voice.vocoder import FRAME_SIZE, PARTS, SAMPLE_RATE_HZ, Frames, frames_of, synthesize

FLITE_GAIN = 0.5  # flite's own vocoder is about twice as loud as ours on the same tracks
GAINS_DB = (-12.0, 6.0)
LOCKED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Recording:
    """utterance: as flite said it; pcm: the same at SAMPLE_RATE_HZ and our level."""

    utterance: Utterance
    pcm: Pcm


def record(split: Split, count: int, seed: int) -> list[Recording]:
    """count: texts; every voice says each."""
    recordings = []
    for text in tqdm(islice(texts(split, seed), count), total=count, unit="text", mininterval=10):
        for voice in VOICES:
            said = utter(text, voice)
            recordings.append(Recording(replace(said, pcm=said.pcm[:0]), sound_of(said)))
    return recordings


def sound_of(said: Utterance) -> Pcm:
    """Flite's own sound at SAMPLE_RATE_HZ and the level of our vocoder."""
    return resample(said.pcm, flite.SAMPLE_RATE_HZ, SAMPLE_RATE_HZ) * np.float32(FLITE_GAIN)


def clips(
    recordings: list[Recording], quantizer: Quantizer, random: np.random.Generator, *, size: int, num_frames: int
) -> tuple[Tensor, Tensor]:
    """(size, num_frames * FRAME_SIZE) samples and (size, num_frames, 2 * DIM) latents."""
    pairs: list[tuple[Pcm, Tensor]] = []
    while len(pairs) < size:
        recording = recordings[int(random.integers(len(recordings)))]
        if len(recording.utterance.pitch_hz) >= (num_frames + 1) * PARTS:
            pairs.append(_clip(recording, quantizer, random, num_frames))
    samples, latents = zip(*pairs, strict=True)
    return torch.from_numpy(np.stack(samples)), torch.stack(latents)


def _clip(
    recording: Recording, quantizer: Quantizer, random: np.random.Generator, num_frames: int
) -> tuple[Pcm, Tensor]:
    tracks = recording.utterance
    start = int(random.integers(0, len(tracks.pitch_hz) - num_frames * PARTS))
    part = slice(start, start + num_frames * PARTS)
    frames = frames_of(
        replace(tracks, pitch_hz=tracks.pitch_hz[part], cepstra=tracks.cepstra[part], strengths=tracks.strengths[part])
    )
    if random.random() < LOCKED_SHARE:
        pcm = synthesize(quantizer.decode(quantizer.encode(quantizer.latents(frames))))
    else:
        first = round(start * TRACK_SECONDS * SAMPLE_RATE_HZ)
        pcm = recording.pcm[first : first + num_frames * FRAME_SIZE]
        pcm = np.pad(pcm, (0, num_frames * FRAME_SIZE - len(pcm)))
    gain = 10 ** (random.uniform(*GAINS_DB) / 20)
    return pcm * np.float32(gain), quantizer.latents(_louder(frames, gain))


def _louder(frames: Frames, gain: float) -> Frames:
    cepstra = frames.cepstra.copy()
    cepstra[..., 0] += np.log(gain)
    return replace(frames, cepstra=cepstra)
