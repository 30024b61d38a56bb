"""The load generator with scripted answers: it records what was sent, and when."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from csm_client.requests import Turn

from bench.listeners.conversations import prepare_conversations
from bench.listeners.load import Load, LoadRecord
from bench.listeners.playback import Arrival
from bench.listeners.summary import summarize
from bench.listeners.workload import PlannedRequest
from tests.support.scripted_server import Chunk, ScriptedClock, ScriptedServer
from tests.support.waits import eventually


def request(text: str, at_s: float = 0.0, conversation: int | None = None) -> PlannedRequest:
    return PlannedRequest(at_s, text, speaker=1, seed=5, max_audio_s=2.0, conversation=conversation)


async def run(server: ScriptedServer, clock: ScriptedClock, *requests: PlannedRequest) -> LoadRecord:
    return await Load(server.channel, probe_interval_s=0, clock=clock).run(requests)


async def test_underruns_are_counted_exactly(server: ScriptedServer, clock: ScriptedClock) -> None:
    """Audio half a second late, in time, just in time, a second late: two underruns with 1.5 s of silence."""
    text = server.script(
        "halting", Chunk(0.25, 0.5), Chunk(1.0, 0.5), Chunk(0.25, 0.25), Chunk(0.5, 0.5), Chunk(1.5, 0.5)
    )
    row = summarize(await run(server, clock, request(text)), rate=1, duration_s=8, buffer_s=0)
    assert (row["completed"], row["underrun_rate"], row["streaming_viability"]) == (1, 1.0, 0.0)
    assert (row["underruns"], row["stalled_s"], row["longest_stall_ms"]) == (2, 1.5, 1000.0)
    assert row["ttfa_ms"] == {"p50": 250.0, "p95": 250.0, "p99": 250.0, "max": 250.0}
    assert row["audible_ttfa_ms"] == row["ttfa_ms"]
    assert row["end_to_end_ms"] == {"p50": 3500.0, "p95": 3500.0, "p99": 3500.0, "max": 3500.0}
    assert row["rtf"] == {"p50": 1.556, "p95": 1.556, "p99": 1.556, "max": 1.556}  # 3.5 s for 2.25 s
    assert (row["audio_s_per_s"], row["messages_per_s"]) == (round(2.25 / 8, 3), round(7 / 8, 2))


async def test_a_jitter_buffer_hides_gaps_up_to_its_length(server: ScriptedServer, clock: ScriptedClock) -> None:
    record = await run(server, clock, request(server.script("late", Chunk(0.0, 0.5), Chunk(1.0, 0.5))))
    assert [summarize(record, 1, 8, buffer_s)["underruns"] for buffer_s in (0.0, 0.25, 0.5)] == [1, 1, 0]


async def test_leading_silence_delays_the_onset_only(server: ScriptedServer, clock: ScriptedClock) -> None:
    text = server.script("quiet", Chunk(0.5, 0.5, silent=True), Chunk(0.25, 0.5))
    row = summarize(await run(server, clock, request(text)), 1, 8, 0)
    assert row["ttfa_ms"] == {"p50": 500.0, "p95": 500.0, "p99": 500.0, "max": 500.0}
    heard = row["audible_ttfa_ms"]
    assert isinstance(heard, dict) and heard["p50"] == 990.0  # the 20 ms window that reaches into the sound


async def test_unavailable_before_audio_is_a_refusal_and_is_not_tried_again(
    server: ScriptedServer, clock: ScriptedClock
) -> None:
    text = server.script("busy", after_s=4.0, then=grpc.StatusCode.UNAVAILABLE)
    row = summarize(await run(server, clock, request(text)), 1, 8, 0)
    assert (row["sent"], row["refused"], row["failed"], row["completed"]) == (1, 1, 0, 0)
    assert (row["max_in_flight"], row["streaming_viability"], row["ttfa_ms"]) == (0, None, None)
    assert row["errors"] == {"UNAVAILABLE": 1}
    assert row["refused_after_ms"] == {"p50": 4000.0, "p95": 4000.0, "p99": 4000.0, "max": 4000.0}
    assert len(server.service.requests) == 1


@pytest.mark.parametrize(
    ("then", "summary", "error"),
    [
        (grpc.StatusCode.UNAVAILABLE, True, "UNAVAILABLE"),
        (grpc.StatusCode.INTERNAL, True, "INTERNAL"),
        (grpc.StatusCode.OK, False, "The audio is incomplete. The stream ended without its summary."),
    ],
)
async def test_a_stream_that_breaks_after_audio_has_failed(
    server: ScriptedServer,
    clock: ScriptedClock,
    then: grpc.StatusCode,
    summary: bool,
    error: str,
) -> None:
    text = server.script("broken", Chunk(0.25, 0.5), then=then, summary=summary)
    row = summarize(await run(server, clock, request(text)), 1, 8, 0)
    assert (row["refused"], row["failed"], row["completed"], row["errors"]) == (0, 1, 0, {error: 1})
    assert (row["streaming_viability"], row["end_to_end_ms"]) == (0.0, None)
    assert row["ttfa_ms"] is not None  # its first audio was heard


async def test_requests_do_not_wait_for_answers(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first stream sends nothing before the second one has begun."""

    async def until_both_have_come(seconds: float) -> None:
        await eventually(lambda: len(server.service.requests) >= 2)

    monkeypatch.setattr(server.service, "_pass", until_both_have_come)
    text = server.script("long", Chunk(0.0, 0.5), Chunk(0.5, 0.5))
    load = Load(server.channel, probe_interval_s=0.05)
    async with asyncio.timeout(60):
        record = await load.run([request(text, 0.0), request(text, 0.1)])
    first, second = record.streams
    assert first.dispatched_at_s < second.dispatched_at_s < first.ended_at_s
    assert second.dispatched_at_s >= 0.1
    assert summarize(record, 1, 1, 0)["max_in_flight"] == 2
    assert record.probes.took_s and not record.probes.failed


async def test_requests_follow_the_plan(server: ScriptedServer, clock: ScriptedClock) -> None:
    text = server.script("plain", Chunk(0.0, 0.5))
    context = [Turn(0, "Hello."), Turn(1, "Hello yourself.")]
    load = Load(server.channel, [[], context], probe_interval_s=0, clock=clock)
    await load.run([request(text, conversation=1)])
    sent = server.service.requests[0]
    assert (sent.input.speaker, sent.sampling_params.seed, sent.max_audio_duration.seconds) == (1, 5, 2)
    assert [turn.text for turn in sent.context.turns] == ["Hello.", "Hello yourself."]


async def test_a_conversation_grows_by_the_codes_of_its_answers(server: ScriptedServer) -> None:
    text = server.script("turn", Chunk(0.0, 0.5))
    [conversation] = await prepare_conversations(server.channel, 1, 3, 2.0, seed=0, deadline_s=10, prompts=[text])
    assert [turn.speaker for turn in conversation] == [0, 1, 0]
    assert all(turn.codes is not None and turn.codes.codes == b"\1\0\2\0" for turn in conversation)
    assert [len(sent.context.turns) for sent in server.service.requests] == [0, 1, 2]
    assert server.service.requests[2].context.turns[1].audio.codes.frame_count == 1


async def test_arrivals_last_as_long_as_their_samples(server: ScriptedServer, clock: ScriptedClock) -> None:
    record = await run(server, clock, request(server.script("two", Chunk(0.25, 0.5), Chunk(0.25, 0.25))))
    assert record.streams[0].audio == [Arrival(0.25, 0.5), Arrival(0.5, 0.25)]
