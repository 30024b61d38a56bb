"""Sizing: every figure comes from the results; the arithmetic; and the page is up to date."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from bench.sizing.__main__ import PAGE, RESULTS, main
from bench.sizing.fleet import (
    CODEC,
    CODEC_HOST,
    ENGINE,
    ENGINE_HOST,
    GATEWAY,
    NETWORK,
    SLOW_CODEC,
    CodecOnGpu,
    Measured,
    fleet,
    is_held,
    minute,
)
from bench.sizing.page import page


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for name in (ENGINE, ENGINE_HOST, CODEC, SLOW_CODEC, CODEC_HOST, GATEWAY, NETWORK):
        shutil.copy(RESULTS / name, tmp_path)
    return tmp_path


@pytest.fixture
def measured() -> Measured:
    return Measured(
        streams_per_gpu=100,
        gpu="a GPU",
        streams_per_host_core=400,
        host_streams=256,
        streams_per_host_core_8=800,
        host_streams_8=512,
        host_cpu="a CPU",
        codec_host_ms=0.8,
        codec_host_streams=256,
        codec_host_cpu="a CPU",
        streams_per_codec_core=4.0,
        codec_batch=8,
        codec_core="a CPU",
        streams_per_slow_core=2.0,
        slow_core="an older CPU",
        gateway_core=0.02,
        gateway_streams=30,
        gateway_cpu="a CPU",
        engine_bytes=1_000,
        codec_bytes=49_000,
        network_cpu="a CPU",
        rss_mb={"engine": 600.0},
    )


def test_the_page_is_generated_from_the_results() -> None:
    kept = PAGE.read_text(encoding="utf-8")
    assert kept == page(Measured.read(RESULTS)), "run `python -m bench.sizing --write`"


def test_engine_capacity_is_the_highest_load_without_losses(results: Path) -> None:
    rows = json.loads((results / ENGINE).read_text())["rows"]
    held = Measured.read(results).streams_per_gpu
    assert held == max(row["streams"] for row in rows if is_held(row))
    assert any(row["streams"] > held for row in rows)  # the next load was tried


@pytest.mark.parametrize("change", [{"refused": 1}, {"silent": 1}, {"streams_with_underrun": 1}, {"ttfa_p95_ms": 1001}])
def test_a_load_with_losses_does_not_count(change: dict[str, int]) -> None:
    row = {"refused": 0, "silent": 0, "streams_with_underrun": 0, "ttfa_p95_ms": 30}
    assert is_held(row) and not is_held({**row, **change}) and not is_held({**row, "ttfa_p95_ms": None})


def test_an_engines_host_is_given_the_streams_that_did_not_run_dry(results: Path) -> None:
    rows = json.loads((results / ENGINE_HOST).read_text())["rows"]
    smooth = [row for row in rows if row["most_frames_per_message"] == 1 and not row["underruns"]]
    measured = Measured.read(results)
    assert measured.host_streams == max(row["streams"] for row in smooth)
    assert measured.streams_per_host_core in [row["streams_a_core"] for row in smooth]
    assert len(smooth) < sum(row["most_frames_per_message"] == 1 for row in rows)  # a larger load was tried


def test_a_new_result_changes_the_page(results: Path) -> None:
    network = json.loads((results / NETWORK).read_text())
    network["rows"][0]["codec_bytes_per_audio_s"] = 123_456
    (results / NETWORK).write_text(json.dumps(network))
    assert "123,456" in page(Measured.read(results))


def test_a_fleet_is_the_listeners_divided_by_the_capacity_of_a_replica(measured: Measured) -> None:
    one = fleet(1_000_000, measured, full_at=0.5)
    assert (one.engines, one.codec_cores, one.gateway_cores) == (20_000, 500_000, 40_000)
    assert (one.inner_bits, one.outer_bits) == (400e9, 384e9)
    assert fleet(1, measured).engines == 1


def test_a_minute_costs_what_its_share_of_the_fleet_costs(measured: Measured) -> None:
    fleet_hour = fleet(30_000, measured)
    cores = fleet_hour.codec_cores + fleet_hour.gateway_cores
    assert minute(measured).cost(2.0, 0.04, 0.0) == pytest.approx(
        (2.0 * fleet_hour.engines + 0.04 * cores) / (30_000 * 60), rel=1e-3
    )
    assert minute(measured).cost(0.0, 0.0, 1.0) == pytest.approx(60 * 48_000 / 1e9)


@pytest.mark.parametrize("name", [ENGINE, CODEC, SLOW_CODEC, NETWORK])
def test_a_missing_result_is_named(results: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (results / name).unlink()
    assert main(["--results", str(results)]) == 1
    assert name in capsys.readouterr().err


def test_every_file_of_the_page_exists() -> None:
    links = re.findall(r"\.\./bench/results/([\w.]+)", PAGE.read_text(encoding="utf-8"))
    assert set(links) == {ENGINE, ENGINE_HOST, CODEC, SLOW_CODEC, CODEC_HOST, GATEWAY, NETWORK}
    assert all((RESULTS / name).exists() for name in links)


def test_the_model_of_the_codec_on_a_gpu_is_that_of_its_page() -> None:
    """And a process carries no more than the host's part allows, nor a card more than its time."""
    measured = Measured.read(RESULTS)
    model, told = CodecOnGpu(measured.codec_host_ms), (PAGE.parent / "codec-on-a-gpu.md").read_text(encoding="utf-8")
    for figure in (model.step_ms, model.near_start_ms):
        assert f" {figure:g} |" in told
    assert f"| {model.host_ms:g} |" in told and f"carries {model.streams_per_core} streams" in told
    assert model.streams_per_core <= model.frame_ms / model.host_ms and model.near_start_ms < model.frame_ms


def test_what_codecs_on_gpus_need_is_rounded_up() -> None:
    model = CodecOnGpu(host_ms=0.8)
    assert model.streams_per_core == 100
    assert (model.cards(1024), model.cards(1025), model.processes(101), model.cores(1001)) == (1, 2, 2, 11)
