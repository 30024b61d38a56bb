"""The program that counts marked turns inside recordings counts those that are there."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from csm_codec.resample import Pcm
from csm_codec.watermark.networks.silentcipher import SilentCipher, load_silentcipher
from recipes.builtin_voice.evaluation import turns
from recipes.builtin_voice.evaluation.turns import TURNS, Talk, clips_found, talk, turns_found
from recipes.builtin_voice.watermark.distortions import Distortion, Recording, distortions

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def trained() -> SilentCipher:
    return load_silentcipher(ROOT / "bundles" / "builtin" / "silentcipher")


@pytest.fixture(scope="module")
def speech() -> Pcm:
    with wave.open(str(ROOT / "tests" / "assets" / "speech_24khz.wav")) as file:
        return (np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768).astype(np.float32)


@pytest.fixture(scope="module")
def made(trained: SilentCipher, speech: Pcm) -> Talk:
    return talk(trained, [speech] * 2 * TURNS, np.random.default_rng(0))


@pytest.fixture(autouse=True)
def two_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is, and with nothing left of it."""
    chosen: dict[str, Distortion] = {"none": distortions()["none"], "gone": lambda pcm, _: Recording(0 * pcm)}
    monkeypatch.setattr(turns, "distortions", lambda: chosen)


@pytest.mark.slow
def test_every_turn_is_counted_with_the_error_of_its_ends(trained: SilentCipher, made: Talk) -> None:
    assert all(2 <= end_s - start_s <= 3.6 for start_s, end_s in made.turns)
    kept, gone = turns_found(trained, [made])
    assert (kept["sought"], kept["stretch_found"], kept["false_stretches"]) == (TURNS, TURNS, 0)
    assert 0 < float(str(kept["ends_off_mean_s"])) <= float(str(kept["ends_off_most_s"])) < 1
    assert (gone["stretch_found"], gone["ends_off_mean_s"]) == (0, None)


@pytest.mark.slow
def test_a_stretch_where_no_turn_is_counts_as_false(trained: SilentCipher, made: Talk) -> None:
    kept, _ = turns_found(trained, [Talk(made.pcm, made.key, made.turns[1:])])
    assert (kept["stretch_found"], kept["false_stretches"]) == (TURNS - 1, 1)


def test_a_weaker_mark_lies_further_below_the_clip(trained: SilentCipher, speech: Pcm) -> None:
    strong, gone = clips_found(trained, [speech], 30.0)
    weak, _ = clips_found(trained, [speech], 47.0)
    assert (strong["found"], strong["stretch_found"], gone["found"], gone["stretch_found"]) == (1, 1, 0, 0)
    assert 14 < float(str(weak["reached_db"])) - float(str(strong["reached_db"])) < 17
