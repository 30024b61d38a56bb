"""Frames cut from a stream against the package's transform of the whole clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from csm_codec.watermark.stream.framing import UNKNOWN, Framer


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 31, 32, 33, 64, 500])
@pytest.mark.parametrize("size", [1, 7, 16, 100, 1000])
def test_frames_are_those_of_the_padded_and_mirrored_clip(length: int, size: int) -> None:
    pcm = np.random.default_rng(length).standard_normal(length).astype(np.float32)
    framer, frames = Framer(16), []

    def take_all() -> None:
        while (frame := framer.take()) is not None:
            frames.append(frame.copy())

    for start in range(0, length, size):
        framer.push(pcm[start : start + size])
        take_all()
        assert framer.num_frames == UNKNOWN
        assert len(frames) <= max(0, min(start + size, length) // 16)
    framer.finish()
    take_all()
    padded = torch.nn.functional.pad(torch.from_numpy(pcm), (0, 32 - length % 32))
    mirrored = torch.nn.functional.pad(padded[None], (16, 16), mode="reflect")[0]
    assert np.array_equal(np.stack(frames), mirrored.unfold(0, 32, 16))
    assert len(frames) == framer.num_frames
    assert framer.num_samples == length
