"""Created voices with two gateways, and with quotas, cancels and failovers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2

from services.common.rpc.status import StatusError
from services.gateway.voices.store import VoiceStore
from tests.services.gateway.voices.callers import calling, deployment_with_tokens, read, refusal
from tests.support.fake_deployment import FakeDeployment


@pytest.fixture
async def gateways(database: str, tmp_path: Path) -> AsyncIterator[tuple[FakeDeployment, FakeDeployment]]:
    """Two gateways with one database, each in front of its own stages."""
    async with (
        deployment_with_tokens(tmp_path, voices_database=database) as first,
        deployment_with_tokens(tmp_path, voices_database=database) as second,
    ):
        yield first, second


async def test_voice_made_at_one_gateway_is_used_at_the_other_at_once(
    gateways: tuple[FakeDeployment, FakeDeployment],
) -> None:
    first, second = gateways
    async with calling(first, "shop") as (here,), calling(second, "shop", "radio") as (there, other):
        assert (await refusal(there.say("carol"))).reason == "VOICE_NOT_FOUND"
        await here.create("carol")
        await read(there.say("carol"))
        assert second.engine.calls[-1].request.segments[0].text == "What she says."
        assert second.codec.encoded == []
        assert (await refusal(other.say("carol"))).reason == "VOICE_NOT_FOUND"
        assert "carol" in await there.listed()
        await there.delete("carol")
        assert (await refusal(here.say("carol"))).reason == "VOICE_NOT_FOUND"


async def test_name_is_taken_at_both_gateways(gateways: tuple[FakeDeployment, FakeDeployment]) -> None:
    first, second = gateways
    async with calling(first, "shop") as (here,), calling(second, "radio") as (there,):
        outcomes = await asyncio.gather(here.create("carol"), there.create("carol"), return_exceptions=True)
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert len(failed) == 1 and isinstance(failed[0], grpc.aio.AioRpcError)
        assert failed[0].code() is grpc.StatusCode.ALREADY_EXISTS


async def test_an_own_voice_made_just_after_its_deletion_found_none_is_not_anothers(
    gateways: tuple[FakeDeployment, FakeDeployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = VoiceStore.delete

    async def delete_before_it_is_made(store: VoiceStore, name: str, owner: str) -> bool:
        found = await delete(store, name, owner)
        await there.create(name)
        return found

    async with calling(gateways[0], "shop") as (here,), calling(gateways[1], "shop") as (there,):
        monkeypatch.setattr(VoiceStore, "delete", delete_before_it_is_made)
        assert (await refusal(here.delete("carol"))).reason == "VOICE_NOT_FOUND"


async def test_quota_counts_calls_with_a_kept_voice(tmp_path: Path) -> None:
    async with (
        deployment_with_tokens(tmp_path, max_streams_per_caller=1) as running,
        calling(running, "shop") as (shop,),
    ):
        await shop.create("carol")
        running.engine.script.pause_at = 0
        call = shop.say("carol")
        await running.engine.script.paused.wait()
        for another in (shop.say("carol"), shop.create("dave")):
            assert (await refusal(another)).reason == "QUOTA_EXCEEDED"
        running.engine.script.resume.set()
        await read(call)


async def test_cancel_of_a_call_with_a_kept_voice_reaches_the_engine(tmp_path: Path) -> None:
    async with deployment_with_tokens(tmp_path) as running, calling(running, "shop") as (shop,):
        await shop.create("carol")
        running.engine.script.pause_at = 2
        call = shop.say("carol")
        await running.engine.script.paused.wait()
        call.cancel()
        async with asyncio.timeout(60):
            await running.engine.calls[0].ended.wait()
        assert running.engine.calls[0].error


async def test_failover_continues_with_the_same_prompt(tmp_path: Path) -> None:
    async with (
        deployment_with_tokens(tmp_path, failover_wait_seconds=20.0) as running,
        calling(running, "shop") as (shop,),
    ):
        await shop.create("carol")
        script, calls = running.engine.script, running.engine.calls
        script.pause_at = 4
        call = shop.say("carol")
        await script.paused.wait()
        script.fail_at, script.failure = 4, StatusError(grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE", "gone")
        script.resume.set()
        await calls[0].ended.wait()
        script.fail_at = None
        await read(call)
        first, second = (call.request for call in calls)
        assert second.resume_frames.frame_count > 0
        assert first.segments == second.segments
        assert first.pinned_segment_count == second.pinned_segment_count == 1


async def test_lost_database_refuses_kept_voices_alone(tmp_path: Path) -> None:
    async with (
        deployment_with_tokens(tmp_path, voices_database=f"postgresql://csm@/none?host={tmp_path}") as running,
        calling(running, "shop") as (shop,),
    ):
        await read(shop.say("bo"))
        assert (await shop.get("bo")).voice.name == "bo"
        for call in (shop.say("carol"), shop.get("carol"), shop.delete("carol"), shop.create("carol")):
            error = await refusal(call)
            assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "VOICES_UNREACHABLE")
            assert error.retry_delay_s == 1.0


async def test_lost_codec_makes_no_voice(tmp_path: Path) -> None:
    async with deployment_with_tokens(tmp_path) as running, calling(running, "shop") as (shop,):
        running.codec.refusal = StatusError(grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE", "gone")
        error = await refusal(shop.create("carol"))
        assert error.code is grpc.StatusCode.UNAVAILABLE
        assert await shop.listed() == ["ada", "bo"]


async def test_a_stream_does_not_resume_with_a_recreated_voice(tmp_path: Path) -> None:
    """Even with the same words: another recording is another speaker."""
    seals = {"code_sealing": "sealed", "code_sealing_keyring": tmp_path / "seals.json"}
    async with deployment_with_tokens(tmp_path, **seals) as running, calling(running, "shop") as (shop,):

        def say(*states: bytes) -> Any:
            config = tts_pb2.StreamConfig(send_checkpoints=True, checkpoints=states)
            return shop.say("carol", stream_config=config, sampling_params=tts_pb2.SamplingParams(seed=7))

        await shop.create("carol")
        states = [message.checkpoint.state async for message in say() if message.HasField("checkpoint")]
        header: Any = await read(say(*states))
        assert states and header.resumed_frame_count
        await shop.delete("carol")
        assert (await refusal(say(*states))).reason == "VOICE_NOT_FOUND"
        await shop.create("carol")
        (violation,) = (await refusal(say(*states))).field_violations
        assert (violation.field, violation.reason) == ("stream_config.checkpoints[0]", "CHECKPOINT_OTHER_REQUEST")
