"""The asynchronous client against a real gateway."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import csm_client
import pytest
from csm.v1 import tts_pb2
from csm_client import AsyncClient, Turn

from csm_bundle.errors import EngineBusyError
from services.gateway.stages.conversations import conversation_key
from tests.support.clock import Clock
from tests.support.fake_deployment import FakeDeployment
from tests.support.fake_stages import FRAME_SAMPLES, NOTICE, fake_frames
from tests.support.text_streams import fake_answer


def expected_samples(frame_count: int) -> bytes:
    return b"".join(struct.pack("<h", number) * FRAME_SAMPLES for number in range(frame_count))


async def test_stream_gives_header_audio_and_summary(client: AsyncClient) -> None:
    stream = client.stream_synthesize("Hello.", seed=7)
    before: object = stream.header
    assert before is None
    samples = b"".join([chunk.audio_content async for chunk in stream])
    assert samples == expected_samples(10)
    assert stream.header is not None and stream.header.seed == 7
    assert stream.summary is not None and stream.summary.finish_reason == tts_pb2.FINISH_REASON_END_OF_SPEECH


async def test_synthesize_and_stream_give_the_same_audio(client: AsyncClient) -> None:
    whole = await client.synthesize("Hello.")
    streamed = await client.stream_synthesize("Hello.").read_all()
    assert whole.samples == streamed.samples == expected_samples(10)
    assert whole.duration_s == streamed.duration_s == 0.8
    assert whole.sample_rate_hz == 24_000


async def test_other_encodings_come_as_they_are(client: AsyncClient) -> None:
    whole = await client.synthesize("Hello.", encoding="mulaw", sample_rate_hz=8_000)
    streamed = await client.stream_synthesize("Hello.", encoding="mulaw", sample_rate_hz=8_000).read_all()
    assert whole.samples == streamed.samples and len(whole.samples) == 6_400
    assert whole.header.audio_format.audio_encoding == tts_pb2.AUDIO_ENCODING_MULAW
    assert (whole.duration_s, whole.sample_rate_hz) == (0.8, 8_000)


async def test_every_option_reaches_the_server(deployment: FakeDeployment, client: AsyncClient) -> None:
    options = csm_client.StreamOptions(
        speaker=3,
        voice="bo",
        language="de",
        context=[Turn(0, "Hi.", codes=fake_frames(0, 2)), Turn(1, "Ha.")],
        temperature=0.0,
        top_k=1,
        seed=0,
        max_seconds=0.4,
        return_codes=True,
        as_one_utterance=True,
        request_id="0b4a7b1e-3f47-4a4e-9f51-2f1f0a5a8f11",
        conversation_id="a talk",
        labels={"a": "b"},
        chunk_seconds=0.16,
    )
    speech = await client.stream_synthesize("Hello. And again.", **options).read_all()
    sent = deployment.engine.calls[0].request
    assert sent.segments[-1].text == "Hello. And again."
    assert sent.segments[-1].speaker_id == 3 and len(sent.segments) == 3
    assert sent.segments[0].codes == fake_frames(0, 2)
    sampling = sent.sampling_params
    assert (sampling.temperature, sampling.top_k, sampling.seed, sent.max_frame_count) == (0, 1, 0, 5)
    assert speech.header.request_id == options["request_id"] and speech.header.voice == "bo"
    assert speech.summary.codes == fake_answer(("Hello. And again.", 5))
    assert deployment.engine.calls[0].metadata["csm-conversation"] == conversation_key("", "a talk", [])


async def test_invalid_request_lists_every_field(client: AsyncClient) -> None:
    with pytest.raises(csm_client.InvalidRequestError) as failed:
        await client.synthesize("", top_k=0)
    assert {violation.field for violation in failed.value.field_violations} == {
        "input.text",
        "sampling_params.top_k",
    }
    assert failed.value.reason == "TEXT_EMPTY" and failed.value.request_id


async def test_a_text_without_words_has_an_error_of_its_own(client: AsyncClient) -> None:
    found = []
    for text, top_k in (("?!", 5), ("?!", 0), ("Hello.", 0)):
        for stream in (client.stream_synthesize(text, top_k=top_k), client.stream_synthesize_text([text], top_k=top_k)):
            with pytest.raises(csm_client.InvalidRequestError) as failed:
                await stream.read_all()
            found.append(csm_client.is_wordless(failed.value))
    assert found == [True, True, False, False, False, False]


async def test_unknown_voice_is_not_found(client: AsyncClient) -> None:
    with pytest.raises(csm_client.NotFoundError, match="ada, bo"):
        await client.stream_synthesize("Hello.", voice="zoe").read_all()


async def test_busy_server_is_unavailable_with_a_delay(deployment: FakeDeployment, client: AsyncClient) -> None:
    deployment.engine.refusal = EngineBusyError("full")
    with pytest.raises(csm_client.UnavailableError) as failed:
        await client.stream_synthesize("Hello.").read_all()
    assert (failed.value.reason, failed.value.retry_delay_s) == ("QUEUE_FULL", 1.0)


async def test_server_lost_in_the_middle_is_incomplete_audio(deployment: FakeDeployment, client: AsyncClient) -> None:
    deployment.engine.script.pause_at = 5
    received = 0
    with pytest.raises(csm_client.IncompleteAudioError) as failed:
        async for chunk in client.stream_synthesize("Hello."):
            received += chunk.sample_count
            if received == 5 * FRAME_SAMPLES:
                await deployment.engine_server.drain(0)
    assert failed.value.received_sample_count == received
    cause: Any = failed.value.__cause__
    assert cause.reason == "ENGINE_LOST"


async def test_a_deadline_passed_before_the_first_audio_has_a_typed_error_with_a_message(
    deployment: FakeDeployment,
) -> None:
    deployment.engine.script.pause_at = 0
    async with csm_client.AsyncClient(deployment.target, timeout_s=2) as client:
        with pytest.raises(csm_client.DeadlineExceededError, match="deadline.*; set a longer one"):
            await client.stream_synthesize("Hello.").read_all()


async def test_a_deadline_after_the_first_audio_is_incomplete_audio_with_a_message(
    deployment: FakeDeployment, clock: Clock
) -> None:
    deployment.engine.script.pause_at = 5
    timeout_s = 25.0  # less than the limits of silent stages and of callers that take nothing
    async with csm_client.AsyncClient(deployment.target, timeout_s=timeout_s) as client:
        with pytest.raises(csm_client.IncompleteAudioError, match="deadline.*; set a longer one"):
            async with client.stream_synthesize("Hello.") as stream:
                chunks = aiter(stream)
                await anext(chunks)
                clock.put_forward(timeout_s)
                async for _ in chunks:
                    pass


async def test_leaving_the_stream_cancels_it(deployment: FakeDeployment, client: AsyncClient) -> None:
    deployment.engine.script.pause_at = 5
    async with client.stream_synthesize("Hello.") as stream:
        async for _ in stream:
            break
    async with asyncio.timeout(60):
        await deployment.engine.calls[0].ended.wait()
    assert deployment.engine.calls[0].error == "CancelledError"


async def test_cancel_from_another_task_is_an_error_for_the_reader_and_does_not_cancel_it(
    deployment: FakeDeployment, client: AsyncClient
) -> None:
    async def read(stream: csm_client.AsyncSpeechStream, heard: asyncio.Event) -> None:
        async for _ in stream:
            heard.set()

    for pause_at, error in ((0, csm_client.ServerError), (5, csm_client.IncompleteAudioError)):
        deployment.engine.script.pause_at = pause_at
        deployment.engine.script.paused.clear()
        stream, heard = client.stream_synthesize("Hello."), asyncio.Event()
        reading = asyncio.create_task(read(stream, heard))
        await (heard if pause_at else deployment.engine.script.paused).wait()
        stream.cancel()
        with pytest.raises(error, match="cancelled"):
            await reading


@pytest.mark.parametrize("is_text", [False, True])
async def test_a_stream_of_a_client_that_is_closed_is_incomplete(
    deployment: FakeDeployment, client: AsyncClient, is_text: bool
) -> None:
    deployment.engine.script.pause_at = 3
    say = client.stream_synthesize_text if is_text else client.stream_synthesize
    chunks = aiter(say("Hello."))
    await anext(chunks)
    await client.close()
    with pytest.raises(csm_client.IncompleteAudioError):
        while True:
            await anext(chunks)


async def test_a_cancelled_reader_is_cancelled_and_ends_the_call(
    deployment: FakeDeployment, client: AsyncClient
) -> None:
    deployment.engine.script.pause_at = 5
    reading = asyncio.create_task(client.stream_synthesize("Hello.").read_all())
    await deployment.engine.script.paused.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    async with asyncio.timeout(60):
        await deployment.engine.calls[0].ended.wait()
    assert deployment.engine.calls[0].error == "CancelledError"


async def test_voices_info_and_detection(client: AsyncClient) -> None:
    assert [voice.name for voice in await client.list_voices()] == ["ada", "bo"]
    assert (await client.server_info()).model_notice == NOTICE
    speech = await client.synthesize("Hello.")
    with pytest.raises(csm_client.InvalidRequestError):
        await client.detect_watermark(speech.samples)
