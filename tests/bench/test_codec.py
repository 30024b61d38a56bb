"""The codec benchmark with tiny networks: what it counts, not how fast."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.codec import ARMS, arm_makers, check_gate, first_audio, make_row, measure
from bench.codec_arms import Both, Parts
from bench.codec_precision import bfloat16_snr
from csm_codec.watermark.networks.silentcipher import load_silentcipher
from tests.support.silentcipher_oracle import PackageOracle
from tests.support.tiny.mimi import write_tiny_mimi
from tests.support.tiny.published import write_published_silentcipher
from tests.support.tiny.silentcipher import write_tiny_silentcipher


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("codec")
    write_tiny_mimi(folder / "mimi", 0, num_codebooks=4, codebook_size=64, context=20, width=32)
    write_tiny_silentcipher(folder / "silentcipher", 0, n_fft=1024)
    return Parts.load(folder / "mimi", folder / "silentcipher", "cpu", torch.float32)


@pytest.mark.slow
def test_all_arms_run_behind_the_gate(parts: Parts) -> None:
    oracle = PackageOracle.load(parts.silentcipher_folder)
    assert 0 < check_gate(parts, oracle) < 1e-6
    makers = arm_makers(parts, oracle)
    assert tuple(makers) == ARMS
    assert all(maker(1) is not None for maker in makers.values())
    arms = {name: makers[name](5) for name in ARMS if "bfloat16" not in name}  # some CPUs emulate it
    turns = measure(arms, frames=1, rounds=2, device=parts.device)
    assert {name: len(taken) for name, taken in turns.items()} == dict.fromkeys(arms, 2)
    assert all(wall > 0 and cpu > 0 for taken in turns.values() for wall, cpu in taken)
    both = arms["both"]
    assert isinstance(both, Both)
    assert 0 < both.watermark_share() < 1


@pytest.mark.slow
def test_the_gate_refuses_an_arm_with_another_mark(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PackageOracle, "embed", lambda self, pcm, payload: pcm)
    with pytest.raises(SystemExit, match="gate"):
        check_gate(parts, PackageOracle.load(parts.silentcipher_folder))


def test_streams_in_real_time_are_those_whose_frames_take_80_ms() -> None:
    row = make_row("decode", 4, [(3.0, 2.0), (9.0, 2.5), (5.0, 1.0)], torch.device("cpu"))
    assert (row["tick_ms"], row["tick_wall_ms"], row["streams_in_real_time"]) == (8.0, 20.0, 40.0)


def test_a_watermark_of_the_published_sizes_is_written_and_loaded(tmp_path: Path) -> None:
    write_published_silentcipher(tmp_path)
    assert load_silentcipher(tmp_path, device="cpu").hparams.band == 1024


def test_first_audio_counts_frames_and_samples(parts: Parts) -> None:
    adaptive, full = first_audio(parts, "adaptive", 1), first_audio(parts, "full", 1)
    assert (adaptive["frames"], adaptive["held_back_ms"]) == (1, 37.3)
    assert (full["frames"], full["held_back_ms"]) == (3, 154.7)


@pytest.mark.slow
def test_bfloat16_is_measured_against_float32_without_touching_the_other_arms(parts: Parts) -> None:
    found = bfloat16_snr(parts.mimi_path, parts.device)
    assert 15 < found["least_frame_snr_db"] <= found["snr_db"] < 80  # eight bits of mantissa, neither none nor all
    assert parts.in_bfloat16().decoder(1) is not None
    assert {parameter.dtype for parameter in parts.mimi.model.decoder.parameters()} == {torch.float32}
