"""For tests of csm_codec.codec: a small codec, codes for the tiny Mimi, running all steps, a stream's samples."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from csm_codec.codec import Codec
from csm_codec.codes import CheckedCodes
from csm_codec.mimi.decoder import Form, MimiDecoder
from csm_codec.mimi.loader import load_mimi
from csm_codec.resample import Pcm
from csm_codec.stream import Audio, DecodeStream, Output
from csm_codec.watermark.embed.embedder import Embedder
from csm_codec.watermark.keys.keyring import Keyring, WatermarkKey
from csm_codec.watermark.networks.silentcipher import load_silentcipher


def small_codec(mimi: Path, silentcipher: Path, form: Form | None = None) -> Codec:
    """A codec with two lanes of two rows."""
    decoder = MimiDecoder(load_mimi(mimi), num_lanes=2, lane_width=2, form=form)
    embedder = Embedder(load_silentcipher(silentcipher), sample_rate_hz=24000, num_slots=4, lane_width=1)
    key = WatermarkKey("key", b"abcde")
    return Codec(decoder, embedder, Keyring(key, {"key": key}))


def some_codes(seed: int, frames: int = 12) -> CheckedCodes:
    return np.random.default_rng(seed).integers(0, 64, (frames, 4))


def run_all(codec: Codec) -> list[Output]:
    """Steps until there is no more work. Returns all outputs."""
    outputs: list[Output] = []
    while codec.has_work:
        outputs += codec.step()
    return outputs


def pcm_of(outputs: Iterable[Output], stream: DecodeStream) -> Pcm:
    return np.concatenate([o.pcm for o in outputs if isinstance(o, Audio) and o.stream is stream])


def alone_on(codec: Codec, codes: CheckedCodes) -> Pcm:
    """Decodes a stream with these codes. Returns its samples."""
    stream = codec.open()
    codec.push(stream, codes)
    codec.finish(stream)
    return pcm_of(run_all(codec), stream)
