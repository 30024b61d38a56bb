"""The recordings on which the mark is judged are as long as the card says."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recipes.builtin_voice.evaluation.mark import LEAST_SECONDS, in_three_seconds
from recipes.builtin_voice.watermark.corpus import joined
from recipes.builtin_voice.watermark.distortions import Recording, distortions

RATE_HZ = 24000
Pcm = npt.NDArray[np.float32]


def counting(seconds: float) -> Pcm:
    return np.arange(round(seconds * RATE_HZ), dtype=np.float32)


def test_sayings_are_joined_until_a_clip_is_long_enough() -> None:
    sayings = [counting(seconds) for seconds in (1.5, 1.5, 2.0, 4.5, 1.0)]
    clips = joined(sayings, LEAST_SECONDS)
    assert [len(clip) / RATE_HZ for clip in clips] == [5.0, 4.5]  # the last second is too short for a clip
    assert all(len(clip) >= LEAST_SECONDS * RATE_HZ for clip in clips)
    assert np.array_equal(clips[0], np.concatenate(sayings[:3]))


def test_three_seconds_are_kept_from_the_start_or_for_a_crop_from_anywhere() -> None:
    def untouched(pcm: Pcm, random: np.random.Generator) -> Recording:
        return Recording(pcm)

    clip, random = counting(6.0), np.random.default_rng(0)
    assert np.array_equal(in_three_seconds("noise 25 dB", untouched)(clip, random).pcm, clip[: 3 * RATE_HZ])
    firsts = {float(in_three_seconds("crop", untouched)(clip, random).pcm[0]) for _ in range(20)}
    assert len(firsts) > 10 and max(firsts) <= 3 * RATE_HZ


def test_three_seconds_are_enough_for_every_distortion() -> None:
    """A row would say another length than it had, if one of them cut more than a tenth of a second."""
    clip, random = np.sin(counting(4.5) / 20).astype(np.float32), np.random.default_rng(0)
    for title, distortion in distortions().items():
        recording = in_three_seconds(title, distortion)(clip, random)
        assert 2.9 <= len(recording.pcm) / recording.sample_rate_hz <= 3.1, title
