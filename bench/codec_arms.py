"""The arms of the codec benchmark: each call makes some 80 ms frames of a batch of streams.

`Decode`, `Mark` and `Both` are the codec stage's own code. `StatelessChunks` is Mimi as most public servers use it:
0.8 s at a time, each piece from a fresh state, which clicks between pieces. `PackageMark` is SilentCipher's own
`encode_wav` on whole utterances, without batches or streams.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from csm_bundle.bundle import open_bundle
from csm_bundle.runtime.torch_threads import use_in_this_thread
from csm_codec.codec import Codec
from csm_codec.config import CPU_LANE_WIDTH
from csm_codec.mimi.decoder import Form, MimiDecoder
from csm_codec.mimi.loader import Mimi, load_mimi
from csm_codec.resample import Pcm
from csm_codec.stream import Failed
from csm_codec.watermark.embed.embedder import Chunk, Embedder
from csm_codec.watermark.keys.keyring import Keyring, WatermarkKey
from csm_codec.watermark.keys.payload import frame_symbols
from csm_codec.watermark.networks.silentcipher import SilentCipher, load_silentcipher
from csm_codec.watermark.stream.level import RunningLevel
from csm_codec.watermark.stream.look_ahead import FULL, LookAhead
from tests.support.silentcipher_oracle import PackageOracle

KEY = WatermarkKey("bench", b"bench")
MODULES_LANE_WIDTH = 4  # as the codec stage had it when it ran moshi's modules on a CPU
STATELESS_FRAMES = 10
UTTERANCE_S = 2.0


@dataclass(frozen=True)
class Parts:
    """The codec's networks on one device."""

    mimi: Mimi
    mimi_path: Path
    silentcipher: SilentCipher
    silentcipher_folder: Path
    dtype: torch.dtype  # of the decoder
    watermark_dtype: torch.dtype = torch.float32
    modules: bool = False  # moshi's for Mimi, on any device
    constant_shape: bool = False

    @classmethod
    def load(cls, mimi: Path, silentcipher: Path, device: str | torch.device, dtype: torch.dtype) -> Parts:
        networks = load_mimi(mimi, device=device), load_silentcipher(silentcipher, device=device)
        return cls(networks[0], mimi, networks[1], silentcipher, dtype)

    @classmethod
    def of_bundle(cls, name: str, device: str | torch.device, dtype: torch.dtype) -> Parts:
        bundle = open_bundle(name)
        return cls.load(bundle.path("mimi"), bundle.path("silentcipher"), device, dtype)

    def in_bfloat16(self, *, modules: bool = False) -> Parts:
        """The same networks with Mimi loaded again, as modules in bfloat16 convert its weights in place."""
        mimi = load_mimi(self.mimi_path, device=self.device)
        return replace(self, mimi=mimi, dtype=torch.bfloat16, watermark_dtype=torch.bfloat16, modules=modules)

    @property
    def device(self) -> torch.device:
        return self.silentcipher.device

    @property
    def frame_samples(self) -> int:
        return self.mimi.identity.frame_sample_count

    def decoder(self, batch: int) -> MimiDecoder:
        width = min(batch, self._widest) if self.device.type == "cpu" else batch
        return MimiDecoder(
            self.mimi,
            num_lanes=-(-batch // width),
            lane_width=width,
            dtype=self.dtype,
            form=Form.MODULES if self.modules else None,
            constant_shape=self.constant_shape,
        )

    @property
    def _widest(self) -> int:
        return MODULES_LANE_WIDTH if self.modules else CPU_LANE_WIDTH

    def embedder(self, batch: int, look_ahead: LookAhead = FULL) -> Embedder:
        """Admission for the rows of `decoder`."""
        on_cpu = self.device.type == "cpu"
        return Embedder(
            self.silentcipher,
            sample_rate_hz=self.mimi.identity.sample_rate_hertz,
            num_slots=-(-batch // self._widest) * self._widest if on_cpu else batch,
            lane_width=1 if on_cpu else batch,
            look_ahead=look_ahead,
            first_samples=self.frame_samples,
            dtype=self.watermark_dtype,
            constant_shape=self.constant_shape,
        )

    def codec(self, batch: int, look_ahead: LookAhead = FULL) -> Codec:
        return Codec(self.decoder(batch), self.embedder(batch, look_ahead), Keyring(KEY, {KEY.id: KEY}))

    def codes(self, frames: int, seed: int = 0) -> np.ndarray:
        """(frames, codebooks)"""
        identity = self.mimi.identity
        return np.random.default_rng(seed).integers(0, identity.codebook_size, (frames, identity.codebook_count))

    def noise(self, seconds: float, rate_hz: int) -> Pcm:
        return (0.07 * np.random.default_rng(0).standard_normal(round(seconds * rate_hz))).astype(np.float32)


class Arm(Protocol):
    """frames: that a call makes of one stream. streams: that a call serves."""

    frames: float
    streams: int

    def run(self) -> None: ...


class Decode:
    """Mimi alone."""

    frames = 1.0

    def __init__(self, parts: Parts, batch: int) -> None:
        self.streams = batch
        self._decoder = parts.decoder(batch)
        width = self._decoder.lane_width
        self._codes = torch.from_numpy(parts.codes(width))
        self._all, self._none = torch.ones(width, dtype=torch.bool), torch.zeros(width, dtype=torch.bool)

    def run(self) -> None:
        for lane in range(self._decoder.num_lanes):
            self._decoder.frame_step(lane, self._codes, self._all, self._none).cpu()


class Mark:
    """The watermark alone, with its full look-ahead, resampling to the networks' rate and back."""

    frames = 1.0

    def __init__(self, parts: Parts, batch: int) -> None:
        self.streams = batch
        self._embedder = parts.embedder(batch)
        noise = parts.noise(0.08, parts.mimi.identity.sample_rate_hertz)
        self._chunks = {slot: Chunk(noise) for slot in range(batch)}
        for slot in range(batch):
            self._embedder.join(slot, frame_symbols(KEY.payload), RunningLevel(self._embedder.n_fft))

    def run(self) -> None:
        self._embedder.push(self._chunks)


class Both:
    """A whole step of the codec."""

    frames = 1.0

    def __init__(self, parts: Parts, batch: int, codec: Codec | None = None) -> None:
        self.streams = batch
        self._codec = codec or parts.codec(batch)
        self._streams = [self._codec.open() for _ in range(batch)]
        self._codes = parts.codes(1)

    def run(self) -> None:
        for stream in self._streams:
            self._codec.push(stream, self._codes)
        for output in self._codec.step():
            if isinstance(output, Failed):
                raise output.error

    def watermark_share(self) -> float:
        """Of the time since the start."""
        watermark_s = sum(stream.watermark_s for stream in self._streams)
        return watermark_s / (watermark_s + sum(stream.decode_s for stream in self._streams))


class BothInThreads:
    """A whole step of several codecs at once, each in a thread of its own, as the codec stage has them."""

    frames = 1.0

    def __init__(self, parts: Parts, batch: int) -> None:
        threads = torch.get_num_threads()
        shares = [part for part in (len(range(n, batch, threads)) for n in range(threads)) if part]
        codec = parts.codec(shares[0])
        codecs = (codec, *(codec.with_own_memory() for _ in shares[1:]))
        self.streams = batch
        self._shares = [Both(parts, share, each) for share, each in zip(shares, codecs, strict=True)]
        self._threads = ThreadPoolExecutor(len(shares), initializer=partial(use_in_this_thread, 1, elsewhere=threads))

    def run(self) -> None:
        for _ in self._threads.map(Both.run, self._shares):
            pass


class StatelessChunks:
    frames = float(STATELESS_FRAMES)

    def __init__(self, parts: Parts, batch: int) -> None:
        self.streams = batch
        self._model = load_mimi(parts.mimi_path, device=parts.device).model
        self._codes = torch.from_numpy(parts.codes(STATELESS_FRAMES).T[None]).to(parts.device)

    @torch.inference_mode()
    def run(self) -> None:
        for _ in range(self.streams):
            self._model.decode(self._codes).cpu()


class PackageMark:
    """The SilentCipher package: one utterance a call, at the networks' rate, so without the package's resampling."""

    streams = 1

    def __init__(self, parts: Parts, oracle: PackageOracle) -> None:
        self.frames = UTTERANCE_S / 0.08
        self._oracle = oracle
        self._clip = parts.noise(UTTERANCE_S, parts.silentcipher.hparams.sample_rate_hz)

    def run(self) -> None:
        self._oracle.embed(self._clip, KEY.payload)
