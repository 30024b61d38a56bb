"""The embedder's steps as CUDA graphs would hold them, on a CPU: by bucket, in parts, over fixed addresses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.kernel_proof.capturable import Capturable
from csm_codec.watermark.embed import spectral_embedder
from csm_codec.watermark.embed.embedder import Chunk, Embedder
from csm_codec.watermark.embed.spectral_embedder import SpectralEmbedder
from csm_codec.watermark.keys.payload import frame_symbols
from csm_codec.watermark.networks.silentcipher import SilentCipher
from csm_codec.watermark.stream.level import RunningLevel
from csm_codec.watermark.stream.look_ahead import ADAPTIVE
from csm_codec.watermark.stream.marked_stream import Step

WIDTH = 9  # buckets of 8 and 9 rows
SYMBOLS = frame_symbols(bytes([1, 200, 33, 4, 250]))


def _marked(
    silentcipher: SilentCipher, pcm: np.ndarray, slots: list[int], *, constant: bool = False
) -> list[np.ndarray]:
    """The same audio in some slots of a lane."""
    embedder = Embedder(
        silentcipher, sample_rate_hz=24000, num_slots=WIDTH, lane_width=WIDTH, look_ahead=ADAPTIVE,
        constant_shape=constant,
    )  # fmt: skip
    for slot in slots:
        embedder.join(slot, SYMBOLS, RunningLevel(embedder.n_fft))
    pieces = [pcm[:1920], pcm[1920:4000]]
    made = [embedder.push({slot: Chunk(piece, piece is pieces[-1]) for slot in slots}) for piece in pieces]
    return [np.concatenate([part[slot] for part in made]) for slot in slots]


def test_buckets_differ_by_rounding_alone(silentcipher: SilentCipher, speechlike: np.ndarray) -> None:
    (small,), (large, _) = (_marked(silentcipher, speechlike, slots) for slots in ([0], [0, 8]))
    assert np.abs(small - large).max() < 1e-6
    assert np.abs(small - speechlike[:4000]).max() > 1e-5


def test_constant_shape_gives_the_same_bits_however_many_rows_take_part(
    silentcipher: SilentCipher, speechlike: np.ndarray
) -> None:
    (alone,) = _marked(silentcipher, speechlike, [0], constant=True)
    assert all(np.array_equal(alone, one) for one in _marked(silentcipher, speechlike, [2, 5, 8], constant=True))


def test_rows_near_their_start_beyond_one_graph_full_are_marked_alike(
    silentcipher: SilentCipher, speechlike: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spectral_embedder, "NEAR_ROWS", 2)
    first, *others = _marked(silentcipher, speechlike, [0, 1, 2, 4, 7])
    assert all(np.array_equal(first, other) for other in others)
    assert np.array_equal(_marked(silentcipher, speechlike, [3])[0], first)


@torch.inference_mode()
def test_a_step_is_capturable_and_keeps_every_address(silentcipher: SilentCipher, speechlike: np.ndarray) -> None:
    embedder = SpectralEmbedder(silentcipher, WIDTH)
    level = RunningLevel(silentcipher.hparams.n_fft)
    steps = {
        row: Step(speechlike[:256], frame, 2**62, max(0, frame - row), SYMBOLS, level.observe)
        for row, frame in ((0, 0), (1, 1))
    }
    embedder.step(steps)
    buffers = (
        embedder._spectra, embedder._overlap, embedder._blocks, embedder._messages, embedder._network._carriers,
        *(layer.past for layer in embedder._network._layers),
    )  # fmt: skip
    before = [buffer.data_ptr() for buffer in buffers]
    embedder._blocks.zero_()
    with Capturable("cpu"):
        embedder._make_messages(8)
        embedder._look_nearer()
        embedder._make_blocks(8)
    assert [buffer.data_ptr() for buffer in buffers] == before
    assert embedder._blocks[:2].any(dim=1).all() and not embedder._blocks[8].any()


def test_level_is_that_of_the_spectrum(silentcipher: SilentCipher, speechlike: np.ndarray) -> None:
    embedder = SpectralEmbedder(silentcipher, 1)
    windowed = (speechlike[:256] + np.float32(0.3)) * embedder._host_window  # with a part at 0 Hz
    windowed[::2] += np.float32(0.01)  # and one at the highest bin
    wanted = float(np.square(np.abs(np.fft.rfft(windowed.astype(float)))).mean())
    assert embedder._mean_square(windowed) == pytest.approx(wanted, rel=1e-6)
