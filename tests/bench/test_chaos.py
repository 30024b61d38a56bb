"""Chaos: the disturbed link, what counts as a pass, and a short run with real processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.chaos import __main__ as chaos
from bench.chaos.faults import FaultRecord
from bench.chaos.items import long_items
from bench.chaos.listeners import Gap, Listeners
from bench.chaos.refusals import Refusal, refusal_report
from bench.chaos.result import result_of, why_not_passed
from bench.report import refused
from services.gateway.synthesis.texts.sentences import sentences_of
from tests.support.network.tcp_relay import TcpRelay
from tests.support.tiny.bundle import write_tiny_bundle

SENT = bytes(range(256))


@asynccontextmanager
async def linked() -> AsyncIterator[tuple[TcpRelay, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A link to an echo server, and a connection through it."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1024):
            writer.write(piece)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    link = TcpRelay(seed=1)
    await link.start()
    link.target_port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    try:
        async with asyncio.timeout(30):
            yield link, reader, writer
    finally:
        writer.close()
        await link.stop()
        server.close()


async def test_a_link_passes_bytes_both_ways() -> None:
    async with linked() as (_, reader, writer):
        writer.write(SENT)
        assert await reader.readexactly(256) == SENT


async def test_a_corrupted_piece_has_one_other_bit() -> None:
    async with linked() as (link, reader, writer):
        link.pieces_to_corrupt = 1
        writer.write(SENT)
        came = await reader.readexactly(256)
    assert sum((a ^ b).bit_count() for a, b in zip(SENT, came, strict=True)) == 1 == link.num_corrupted


async def test_a_cut_ends_the_connection_and_not_the_next_one() -> None:
    async with linked() as (link, reader, writer):
        writer.write(SENT)
        await reader.readexactly(256)
        link.cut()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", link.port)
        other_writer.write(SENT)
        assert await other_reader.readexactly(256) == SENT
        other_writer.close()


async def test_a_silenced_connection_stays_open_and_loses_its_bytes() -> None:
    async with linked() as (link, reader, writer):
        writer.write(SENT)
        await reader.readexactly(256)
        link.silence()
        writer.write(SENT)
        reading = asyncio.create_task(reader.read(1))
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", link.port)
        other_writer.write(SENT)
        assert await other_reader.readexactly(256) == SENT
        other_writer.close()
        await asyncio.sleep(0.2)
        assert not reading.done()
        reading.cancel()


async def test_a_black_hole_keeps_bytes_back_and_loses_none() -> None:
    async with linked() as (link, reader, writer):
        link.set_black_hole(True)
        writer.write(SENT)
        reading = asyncio.create_task(reader.readexactly(256))
        await asyncio.sleep(0.2)
        assert not reading.done()
        link.set_black_hole(False)
        assert await reading == SENT


def result(**changed: Any) -> dict[str, Any]:
    passed = {
        "failed": 0,
        "different": 0,
        "refused": 1,
        "streams": 4,
        "crowd": 0,
        "unmarked": [],
        "slots": {"after": {"engine 0": 0.0}},
    }
    return passed | {"tracebacks": {"engine 0": 0}} | changed


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, []),
        ({"failed": 1}, ["1 failed"]),
        ({"different": 2}, ["2 different"]),
        ({"refused": 3}, ["3 of 4 streams were refused"]),
        ({"refused": 3, "crowd": 9}, []),
        ({"unmarked": ["text 100"]}, ["without a mark: ['text 100']"]),
        ({"slots": {"after": {"engine 0": 1.0}}}, ["slots are still taken: {'engine 0': 1.0}"]),
        ({"tracebacks": {"codec 1": 1}}, ["tracebacks in the logs: {'codec 1': 1}"]),
    ],
)
def test_a_run_passes_only_without_lost_streams(changed: dict[str, Any], why: list[str]) -> None:
    assert why_not_passed(result(**changed)) == why


async def test_the_result_counts_faults_by_kind_and_names_the_gaps_near_them() -> None:
    listeners = Listeners("127.0.0.1:1", [])
    listeners.outcomes.ok = 2
    listeners.outcomes.gaps = [Gap(0.5, 100.0), Gap(3.25, 21.0)]
    listeners.reader_faults["slow reader"] = 2
    struck = [
        FaultRecord("kill engine", 10.0, 20.0, "engine 0"),
        FaultRecord("cut codec", 99.0, 99.0, "codec 0"),
        FaultRecord("cut codec", 50.0, 50.0, "codec 1"),
    ]
    nothing: dict[str, float] = {}
    made = result_of(
        struck=struck, listeners=listeners, rss_mb=(nothing, nothing), slots=(nothing, nothing), tracebacks={}
    )
    await listeners.close()
    assert (made["faults"], made["streams"], made["ok"]) == (5, 2, 2)
    assert made["longest_gap_s"] == {"p50": 0.5, "p95": 3.25, "max": 3.25}
    assert made["rows"] == [
        {"fault": "cut codec", "count": 2, "longest_gap_s": 0.5},
        {"fault": "kill engine", "count": 1, "longest_gap_s": 3.25},
        {"fault": "slow reader", "count": 2, "longest_gap_s": None},
    ]


def test_long_texts_have_that_many_sentences_and_share_no_seed() -> None:
    items = long_items(15, ("stream", "text", "door"))
    assert [len(sentences_of(item.words, "en")) for item in items] == [15, 15, 15]
    seeds = [seed for item in items for seed in range(item.seed, item.seed + 15)]  # each sentence has the next one
    assert len(set(seeds)) == len(seeds)


def test_the_option_door_requires_long_texts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        chaos.main(["--door"])
    assert "--door needs --sentences" in capsys.readouterr().err


def test_a_refusal_names_the_faults_at_its_time_and_shortly_before() -> None:
    struck = [
        FaultRecord("kill engine", 80.0, 90.0, "engine 1"),  # long healed
        FaultRecord("black hole engine", 90.0, 96.0, "engine 0"),  # healed shortly before
        FaultRecord("kill engine", 99.5, 112.0, "engine 1"),
        FaultRecord("freeze codec", 98.0, 104.0, "codec 0"),
        FaultRecord("cut gateway", 101.0, 101.0, "gateway 0"),  # later
    ]
    refusal = Refusal("stream 3, fast reader", "ENGINE_UNREACHABLE", "The engine cannot be reached.", 99.0, 100.25)
    made = refusal_report(refusal, struck)
    assert made["down"] == ["codec 0", "engine 1"] and made["asked_s"] == -1.25
    assert made["faults"] == [
        {"fault": "black hole", "replica": "engine 0", "from_s": -10.25, "until_s": -4.25},
        {"fault": "freeze", "replica": "codec 0", "from_s": -2.25, "until_s": 3.75},
        {"fault": "kill", "replica": "engine 1", "from_s": -0.75, "until_s": 11.75},
    ]
    assert refused(made) == (
        "Refused: stream 3, fast reader with ENGINE_UNREACHABLE; struck at that moment: codec 0, engine 1"
        " (black hole engine 0 from -10.25 to -4.25 s; freeze codec 0 from -2.25 to 3.75 s;"
        " kill engine 1 from -0.75 to 11.75 s)"
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("load", [[], ["--sentences", "5", "--door", "--strike", "engine", "codec"]])
def test_streams_survive_a_dozen_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str], load: list[str]) -> None:
    write_tiny_bundle(tmp_path / "tiny")
    options = ["--bundle", str(tmp_path / "tiny"), "--logs", str(tmp_path / "logs"), "--faults", "12"]
    code = chaos.main([*options, "--most-seconds", "60", *load])
    printed = capsys.readouterr().out.splitlines()[-1]
    assert code == 0, printed
    assert json.loads(printed)["ok"] > 0
