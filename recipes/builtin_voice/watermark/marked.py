"""Clips marked exactly as the service marks them, and crops of these with the symbol of every frame.

The networks that embed are those of a finished folder. So no formula is written a second time here: a clip goes through
the streaming embedder, at the running level of its own stream, with the look-ahead that grows or with the full one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from csm_codec.resample import Pcm
from csm_codec.watermark.keys.payload import PERIOD, frame_symbols
from csm_codec.watermark.networks.silentcipher import SilentCipher
from csm_codec.watermark.stream.look_ahead import ADAPTIVE, FULL
from recipes.builtin_voice.watermark.corpus import Corpus
from recipes.builtin_voice.watermark.evaluate import mark, random_key
from recipes.builtin_voice.watermark.train import frame_offset

ADAPTIVE_SHARE = 0.7  # of the clips; the others have the full look-ahead
SERVED_SHARE = 0.5  # of the clips, as loud as they are; the others are made softer or louder
AT_START = 0.25  # of the crops, begin where the stream begins


@dataclass(frozen=True, slots=True)
class Marked:
    """A clip with the message on the air: frame f of a hop, centred at sample f * hop, has symbols[f % PERIOD]."""

    pcm: Pcm
    symbols: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Crops:
    """A batch."""

    pcm: Tensor  # (rows, (frames + 1) * hop)
    symbols: Tensor  # (rows, frames)
    power: Tensor  # (rows, 1), of the clip that each row is cut from


def mark_clips(
    silentcipher: SilentCipher,
    corpus: Corpus,
    chances: Mapping[str, float],
    random: np.random.Generator,
    *,
    count: int,
    least: int,
) -> list[Marked]:
    """Clips of the corpus, by the chances of their kinds, each as a stream with a key of its own.

    A stream begins anywhere in its clip, so that at least `least` samples follow. Raises ValueError for a shorter clip.
    """
    marked = []
    for kind in random.choice(list(chances), size=count, p=list(chances.values())):
        clips = corpus.clips[kind]
        clip = clips[random.integers(len(clips))]
        clip = clip[random.integers(len(clip) - least + 1) :]
        if random.random() > SERVED_SHARE:
            clip = clip * np.float32(min(10 ** (random.uniform(-14, 8) / 20), 0.99 / np.abs(clip).max()))
        key, look_ahead = random_key(random), ADAPTIVE if random.random() < ADAPTIVE_SHARE else FULL
        marked.append(Marked(mark(silentcipher, clip, key, look_ahead), frame_symbols(key.payload)))
    return marked


def cut_crops(marked: list[Marked], random: np.random.Generator, *, rows: int, frames: int, hop: int) -> Crops:
    """Crops whose frames begin up to half a hop beside those of the embedder, mostly near them.

    Clips have at least (frames + 3) * hop samples.
    """
    pcm, symbols = np.zeros((rows, (frames + 1) * hop), np.float32), np.zeros((rows, frames), np.int64)
    power = np.zeros((rows, 1), np.float32)
    for row in range(rows):
        clip = marked[random.integers(len(marked))]
        offset = frame_offset(random, hop)
        earliest = 0 if offset >= 0 else 1  # frame
        latest = (len(clip.pcm) - pcm.shape[1] - offset) // hop
        first = earliest if random.random() < AT_START else int(random.integers(earliest, latest + 1))
        start = first * hop + offset
        pcm[row] = clip.pcm[start : start + pcm.shape[1]]
        symbols[row] = np.array(clip.symbols)[(first + 1 + np.arange(frames)) % PERIOD]
        power[row] = np.square(clip.pcm, dtype=np.float64).mean()
    return Crops(torch.from_numpy(pcm), torch.from_numpy(symbols), torch.from_numpy(power))
