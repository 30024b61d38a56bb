"""A codec for a GPU whose device does nothing: its captured functions are not run, and its buffers hold noise.

The host's part is whole: tables, resampling, windows, levels, copies, checks, outputs. The copies stay on the host, so
what a driver takes to launch a graph or a copy is missing.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from csm_bundle.bundle import Bundle, open_bundle
from csm_bundle.runtime.captured import Captured
from csm_codec.codec import Codec
from csm_codec.mimi.batch.lanes import BatchLanes
from csm_codec.mimi.decoder import Form, MimiDecoder
from csm_codec.mimi.loader import Mimi, load_mimi
from csm_codec.watermark.embed.embedder import Embedder
from csm_codec.watermark.embed.spectral_embedder import SpectralEmbedder
from csm_codec.watermark.keys.keyring import FindsKey
from csm_codec.watermark.networks.silentcipher import SilentCipher, load_silentcipher
from csm_codec.watermark.stream.look_ahead import ADAPTIVE
from tests.support.tiny.silentcipher import write_tiny_silentcipher

NETWORK_HZ, WINDOW = 44100, 4096  # as published; of the networks' other sizes the host sees nothing
SPEECH_LEVEL, MARK_LEVEL = 0.07, 0.001


@dataclass(frozen=True)
class Parts:
    """A bundle's Mimi, which must have csm-1b's codebooks and rate, and watermark networks with published windows."""

    bundle: Bundle
    mimi: Mimi
    silentcipher: SilentCipher

    @classmethod
    def of_bundle(cls, name: str | Path) -> Parts:
        bundle = open_bundle(str(name))
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "silentcipher"
            write_tiny_silentcipher(folder, 0, sample_rate_hz=NETWORK_HZ, n_fft=WINDOW)
            return cls(bundle, load_mimi(bundle.path("mimi")), load_silentcipher(folder))

    def embedder(self, slots: int) -> Embedder:
        identity = self.mimi.identity
        return Embedder(
            self.silentcipher,
            sample_rate_hz=identity.sample_rate_hertz,
            num_slots=slots,
            lane_width=slots,
            look_ahead=ADAPTIVE,
            first_samples=identity.frame_sample_count,
        )

    def codec(self, slots: int, keyring: FindsKey) -> Codec:
        """slots: two at least, since a lane of one has the form of a CPU"""
        decoder = MimiDecoder(self.mimi, num_lanes=1, lane_width=slots, form=Form.BATCH)
        embedder = self.embedder(slots)
        _idle(decoder, embedder)
        return Codec(decoder, embedder, keyring)


@torch.inference_mode()
def _idle(decoder: MimiDecoder, embedder: Embedder) -> None:
    """Takes the device's work away."""
    assert isinstance(decoder._half, BatchLanes)
    for lane in decoder._half._lanes:
        lane._pcm.normal_(0, SPEECH_LEVEL)
        _never_run(*lane._steps.values())
    for lanes in embedder._lanes:
        assert isinstance(lanes, SpectralEmbedder) and lanes._ending is not None
        for marks in (lanes, lanes._ending):
            marks._blocks.normal_(0, MARK_LEVEL)
            _never_run(marks._near, *marks._messages_of.values(), *marks._blocks_of.values())


def _never_run(*captured: Captured) -> None:
    for each in captured:
        each._run = lambda: None
