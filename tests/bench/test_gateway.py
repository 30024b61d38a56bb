"""The gateway compared with a bare relay: a short run with real processes."""

from __future__ import annotations

import json
import math

import pytest

from bench.gateway import __main__ as gateway


@pytest.mark.timeout(300)
def test_streams_through_relay_and_gateway_are_whole_and_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert gateway.main(["--streams", "2", "--frames", "3", "--seconds", "0.8"]) == 0
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert (row["streams"], row["frames_per_message"]) == (2, 3)
    assert row["relay_cpu_ms"] > 0
    assert math.isclose(row["over_relay"], row["gateway_cpu_ms"] / row["relay_cpu_ms"], rel_tol=0.02)


def test_a_stream_that_is_not_whole_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gateway, "SAMPLE_RATE_HZ", 48_000)  # so many samples are expected
    assert gateway.main(["--streams", "1", "--frames", "3", "--seconds", "0.8"]) == 1
    assert "samples" in capsys.readouterr().err
