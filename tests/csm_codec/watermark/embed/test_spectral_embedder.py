"""The embedder's steps as CUDA graphs would hold them, on a CPU: by bucket, in parts, over fixed addresses."""

from __future__ import annotations

from typing import Any

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
    pieces = [pcm[:960], pcm[960:2000]]
    made = [embedder.push({slot: Chunk(piece, piece is pieces[-1]) for slot in slots}) for piece in pieces]
    return [np.concatenate([part[slot] for part in made]) for slot in slots]


def test_buckets_differ_by_rounding_alone(silentcipher: SilentCipher, speechlike: np.ndarray) -> None:
    (small,), (large, _) = (_marked(silentcipher, speechlike, slots) for slots in ([0], [0, 8]))
    assert np.abs(small - large).max() < 1e-6
    assert np.abs(small - speechlike[:2000]).max() > 1e-5


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


def test_streams_that_end_take_no_steps_of_the_others(
    silentcipher: SilentCipher, speechlike: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They end in the narrow lane, also when there are more of them than it has rows, with the same mark."""
    (expected,) = _marked(silentcipher, speechlike, [0], constant=True)
    monkeypatch.setattr(spectral_embedder, "ENDING_ROWS", 2)
    steps: list[int] = []
    step = SpectralEmbedder.step

    def counted(self: SpectralEmbedder, *arguments: Any) -> dict[int, np.ndarray]:
        steps.append(len(self._overlap))
        return step(self, *arguments)

    monkeypatch.setattr(SpectralEmbedder, "step", counted)
    made = _marked(silentcipher, speechlike, [0, 1, 4, 5, 8], constant=True)
    assert all(np.abs(one - expected).max() < 1e-6 for one in made)
    assert all(np.array_equal(one, made[0]) for one in made)
    assert steps.count(WIDTH) == 15  # frames 0 to 14, whose windows end by sample 15 * 128
    assert steps.count(2) == 3 * 8  # three pairs; frames 15 and 16, and six that push the last marks out


def test_the_last_steps_do_not_depend_on_when_the_end_is_known(
    silentcipher: SilentCipher, speechlike: np.ndarray
) -> None:
    def ends(borders: list[int]) -> list[bool]:
        stream = Embedder(silentcipher, sample_rate_hz=24000, num_slots=1, lane_width=1).join(
            0, SYMBOLS, RunningLevel(256)
        )
        found = []
        pieces = np.split(speechlike[:4000], borders)
        for index, piece in enumerate(pieces):
            stream.push(piece, last=index == len(pieces) - 1)
            while (step := stream.next_step()) is not None:
                step.observe(0.1)
                found.append(step.is_end)
        return found

    assert ends([4000]) == ends([]) == ends([1920])
    assert sorted(ends([])) == ends([]) and 6 < sum(ends([])) < 12


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
        *embedder._states, embedder._blocks, embedder._messages,
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
