"""All turns of a conversation go to one replica of the engine, through any gateway, while that replica serves."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc

from csm_bundle.errors import EngineFaultError
from services.gateway.auth.tokens import digest_of
from services.gateway.stage import start_gateway
from services.gateway.stages import moved_conversations
from services.gateway.stages.conversations import conversation_key
from services.gateway.stages.moved_conversations import MOVED_S, MovedConversations
from services.gateway.synthesis.plan import ContextTurn
from tests.services.gateway.stages.engines import REPLICAS, Request, counts, engine_of, metric, named, say
from tests.support.clock import Clock
from tests.support.fake_deployment import FakeDeployment, failure, fake_deployment
from tests.support.fake_stages import fake_frames, numbered_audio

SPOKEN = ContextTurn(0, "Hello.", codes=fake_frames(0, 3))
FAULT = EngineFaultError("The engine computed an invalid frame.")


async def test_turns_of_a_conversation_go_to_one_engine(
    deployment: FakeDeployment, tts: Any, stream_request: Request
) -> None:
    for name in ("a", "b", "c", "d"):
        assert len({await engine_of(tts, deployment, named(stream_request, name)) for _ in range(5)}) == 1
    assert metric(deployment, "tts_engine_calls_total", by="conversation") == 20


async def test_conversations_go_to_all_engines(deployment: FakeDeployment, tts: Any, stream_request: Request) -> None:
    """Of 60 keys each engine gets 20, within four standard deviations of 3.7."""
    asked = [named(stream_request, f"conversation {number}") for number in range(60)]
    found = Counter([await engine_of(tts, deployment, request) for request in asked])
    assert sorted(found) == list(range(REPLICAS)) and min(found.values()) > 20 - 4 * 3.7


async def test_gateways_agree(deployment: FakeDeployment, tts: Any, stream_request: Request) -> None:
    other = await start_gateway(deployment.gateway.settings)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{other.server.port}") as channel:
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        for number in range(8):
            asked = named(stream_request, f"conversation {number}")
            assert await engine_of(tts, deployment, asked) == await engine_of(stub, deployment, asked)
    await other.stop()


async def test_the_first_turn_with_codes_stands_for_the_conversation(
    deployment: FakeDeployment, tts: Any, stream_request: Request
) -> None:
    stream_request.context.turns.add(speaker=0, text="A voice's prompt.")
    for number in range(6):
        asked = Request()
        asked.CopyFrom(stream_request)
        asked.context.turns.add(speaker=1, text=f"Hello {number}.").audio.codes.CopyFrom(fake_frames(number, 3))
        first = await engine_of(tts, deployment, asked)
        asked.context.turns.add(speaker=1, text="And then?").audio.codes.CopyFrom(fake_frames(9, 2))
        assert await engine_of(tts, deployment, asked) == first
    assert metric(deployment, "tts_engine_calls_total", by="conversation") == 12


async def test_calls_without_a_conversation_are_spread(
    deployment: FakeDeployment, tts: Any, stream_request: Request
) -> None:
    """A voice's prompt, with which all its conversations begin, is no conversation's key."""
    stream_request.context.turns.add(speaker=0, text="A voice's prompt.")
    for _ in range(4 * REPLICAS):
        await say(tts, stream_request)
    assert min(counts(deployment.engines)) > 0
    assert metric(deployment, "tts_engine_calls_total", by="load") == 4 * REPLICAS


async def test_sentences_of_a_text_go_to_one_engine(
    deployment: FakeDeployment, tts: Any, stream_request: Request
) -> None:
    await say_sentences(tts, stream_request, 8)
    assert sorted(counts(deployment.engines)) == [0, 0, 8]


async def test_sentences_leave_a_faulty_engine(deployment: FakeDeployment, tts: Any, stream_request: Request) -> None:
    faulty = deployment.engines[0]
    faulty.script.fail_at, faulty.script.failure = 5, FAULT
    for _ in range(12):
        await say_sentences(tts, stream_request, 4)
    keys = [call.metadata.get("csm-conversation", "") for call in faulty.calls]
    assert max(Counter(filter(None, keys)).values(), default=1) == 1


async def say_sentences(tts: Any, request: Request, count: int) -> None:
    request.input.text = ""
    message = tts_pb2.StreamSynthesizeTextRequest
    text = tts_pb2.TextPiece(text=" ".join(f"This is sentence {number}." for number in range(count)))
    async for _ in tts.StreamSynthesizeText([message(config=request), message(text=text)], timeout=60):
        pass


async def test_a_conversation_leaves_a_faulty_engine_for_a_while(
    clock: Clock, deployment: FakeDeployment, tts: Any, stream_request: Request
) -> None:
    asked = named(stream_request, "a")
    own = await engine_of(tts, deployment, asked)
    faulty, own_calls = deployment.engines[own], 1
    faulty.script.fail_at, faulty.script.failure = 5, FAULT
    while True:  # each fault moves it: with three engines it stays with a chance of one in three
        assert await say(tts, asked) == numbered_audio(range(10))
        if len(faulty.calls) == own_calls:
            break
        own_calls = len(faulty.calls)
    (other,) = {await engine_of(tts, deployment, asked) for _ in range(3)}
    assert other != own
    clock.put_forward(MOVED_S)
    faulty.script.fail_at = None
    assert await engine_of(tts, deployment, asked) == own


def test_a_limited_number_of_conversations_is_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moved_conversations, "MAX_MOVED", 2)
    moved = MovedConversations()
    for conversation in ("a", "b", "a", "c"):
        moved.move(conversation)
    assert [moved.count(conversation) for conversation in "abc"] == [2, 0, 1]


async def test_two_callers_with_one_id_have_two_keys(tmp_path: Path, stream_request: Request) -> None:
    entries = [{"name": name, "sha256": digest_of(f"token-of-{name}")} for name in ("ada", "bo")]
    (tmp_path / "tokens.json").write_text(json.dumps(entries))
    async with (
        fake_deployment(auth_tokens_file=tmp_path / "tokens.json") as running,
        grpc.aio.insecure_channel(running.target) as channel,
    ):
        stub = tts_pb2_grpc.TextToSpeechServiceStub(channel)
        for name in ("ada", "bo", "ada"):
            asked = named(stream_request, "one id")
            await say(stub, asked, metadata=(("authorization", f"Bearer token-of-{name}"),))
        keys = [call.metadata["csm-conversation"] for call in running.engine.calls]
    assert keys[0] == keys[2] != keys[1]
    assert "one id" not in "".join(keys)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [("x" * 129, "has 129 characters; at most 128 are allowed."), ("a\nb", "has a character that is not printable.")],
)
async def test_a_wrong_id_is_refused(
    deployment: FakeDeployment, tts: Any, stream_request: Request, given: str, complaint: str
) -> None:
    error = await failure(tts.StreamSynthesize(named(stream_request, given)))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [(v.field, v.description) for v in error.field_violations] == [("conversation_id", complaint)]
    stream_request.input.text = ""
    config = tts_pb2.StreamSynthesizeTextRequest(config=named(stream_request, given))
    error = await failure(tts.StreamSynthesizeText([config]))
    assert [v.field for v in error.field_violations] == ["config.conversation_id"]


def test_no_two_sources_have_one_key() -> None:
    other = ContextTurn(0, "Hello.", codes=fake_frames(5, 3))
    keys = [
        conversation_key("", "id", []),
        conversation_key("ada", "id", []),
        conversation_key("adai", "d", []),
        conversation_key("ada", "", [SPOKEN]),
        conversation_key("ada", "", [other]),
        conversation_key("bo", "", [SPOKEN]),
        conversation_key("ada", "", [], call_id="id"),
    ]
    assert len(set(keys)) == len(keys) and all(len(key) == 32 for key in keys)


def test_nothing_that_other_conversations_share_is_a_key() -> None:
    prompt = ContextTurn(0, "A voice's prompt.")
    assert conversation_key("ada", "", []) == conversation_key("ada", "", [prompt]) == ""
    assert conversation_key("ada", "", [prompt, SPOKEN]) == conversation_key("ada", "", [SPOKEN, prompt])
