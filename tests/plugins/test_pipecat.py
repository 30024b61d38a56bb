"""The plugin of Pipecat over its real base class, in a real pipeline, against a real gateway (`make test-plugins`)."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from typing import Any

import pytest

frames = pytest.importorskip("pipecat.frames.frames")

from csm_client.plugins import pipecat  # noqa: E402
from csm_client.plugins.pipecat import CsmTTSService  # noqa: E402
from pipecat.services.tts_service import TTSService  # noqa: E402
from pipecat.tests.utils import SleepFrame, run_test  # noqa: E402

FRAME_BYTES = 2 * 1920
SENTENCE_BYTES = 10 * FRAME_BYTES
SILENCE_BYTES = 2 * 240


def reply(*tokens: str) -> list[Any]:
    """What a language model's service pushes."""
    return [
        frames.LLMFullResponseStartFrame(),
        *(frames.LLMTextFrame(token) for token in tokens),
        frames.LLMFullResponseEndFrame(),
    ]


async def run(service: CsmTTSService, sent: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    down, up = await asyncio.wait_for(run_test(service, frames_to_send=sent, start_timeout=20), 60)
    return list(down), list(up)


def audio(down: list[Any]) -> list[Any]:
    return [frame for frame in down if isinstance(frame, frames.TTSAudioRawFrame)]


async def test_tokens_become_frames_of_24_khz_in_one_call(gateway: Any) -> None:
    service = CsmTTSService(gateway.target, voice="bo", speech={"seed": 3})
    assert isinstance(service, TTSService)
    down, up = await run(service, reply("Good ", "morning. ", "How ", "are ", "you?"))
    assert sum(len(frame.audio) for frame in audio(down)) == 2 * SENTENCE_BYTES
    assert {(frame.sample_rate, frame.num_channels) for frame in audio(down)} == {(24_000, 1)}
    kinds = [type(frame) for frame in down]
    assert kinds.index(frames.TTSStartedFrame) < kinds.index(frames.TTSAudioRawFrame)
    assert kinds.index(frames.TTSStoppedFrame) > max(
        at for at, kind in enumerate(kinds) if kind is frames.TTSAudioRawFrame
    )
    assert gateway.calls() == [("Good morning.", "ended"), ("How are you?", "ended")]
    assert not [frame for frame in up if isinstance(frame, frames.ErrorFrame)]


async def test_first_sentence_is_made_before_the_text_is_whole(gateway: Any) -> None:
    tokens = reply("Good ", "morning. ", "How ")[:-1]
    service = CsmTTSService(gateway.target)
    seen: list[list[tuple[str, str]]] = []

    async def look() -> None:
        while not (calls := await asyncio.to_thread(gateway.calls)):
            await asyncio.sleep(0.05)
        seen.append(calls)

    looking = asyncio.create_task(look())
    await run(service, [*tokens, SleepFrame(sleep=2.0), *reply("are you?")[1:]])
    await looking
    assert seen[0][0][0] == "Good morning."
    assert [text for text, _ in gateway.calls()] == ["Good morning.", "How are you?"]


async def test_interruption_ends_the_call_at_the_server(gateway: Any) -> None:
    gateway.tell("pause 5")
    sent = [*reply("Good morning. ", "How ")[:-1], SleepFrame(sleep=2.0), frames.InterruptionFrame()]
    down, _ = await run(CsmTTSService(gateway.target), sent)
    assert 0 < sum(len(frame.audio) for frame in audio(down)) < SENTENCE_BYTES
    ((text, state),) = gateway.wait_until_ended()
    assert text == "Good morning." and state != "ended"


async def test_a_turn_that_loses_its_gateway_goes_on_with_the_same_samples(gateway: Any) -> None:
    gateway.tell("pause 5")
    service: Any = CsmTTSService(gateway.target)
    sound, has_audio = service._sound, asyncio.Event()

    async def sound_and_tell(*audio: Any) -> None:
        await sound(*audio)
        has_audio.set()

    async def lose() -> None:
        await has_audio.wait()
        gateway.tell("cut")
        gateway.tell("resume")

    service._sound = sound_and_tell
    (down, up), _ = await asyncio.gather(run(service, reply("Good morning.")), lose())
    samples = b"".join(frame.audio for frame in audio(down))
    assert samples == b"".join(struct.pack("<h", number) * (FRAME_BYTES // 2) for number in range(10))
    assert not [frame for frame in up if isinstance(frame, frames.ErrorFrame)]
    assert [text for text, _ in gateway.calls()] == ["Good morning."] * 2


async def test_turn_after_an_interruption_is_spoken(gateway: Any) -> None:
    gateway.tell("pause 5")
    service = CsmTTSService(gateway.target)
    sent = [
        *reply("Good morning. ", "How ")[:-1],
        SleepFrame(sleep=2.0),
        frames.InterruptionFrame(),
        SleepFrame(sleep=0.5),
    ]
    asyncio.get_running_loop().call_later(1.0, lambda: gateway.tell("resume"))
    down, _ = await run(service, [*sent, *reply("Again.")])
    assert ("Again.", "ended") in gateway.calls()
    (at,) = [at for at, frame in enumerate(down) if isinstance(frame, frames.InterruptionFrame)]
    assert sum(len(frame.audio) for frame in audio(down[at:])) == SENTENCE_BYTES


@pytest.mark.parametrize("text", ["\N{PARTY POPPER}", "?!"])
async def test_turn_without_words_is_silent_and_no_error(gateway: Any, text: str) -> None:
    service = CsmTTSService(gateway.target)
    down, up = await run(service, [*reply(text), SleepFrame(sleep=1.0), *reply("Hello.")])
    assert not [frame for frame in up if isinstance(frame, frames.ErrorFrame)]
    silence, *spoken = audio(down)  # Pipecat takes a turn without any audio for a failure
    assert silence.audio == bytes(SILENCE_BYTES) and sum(len(frame.audio) for frame in spoken) == SENTENCE_BYTES
    assert gateway.calls() == [("Hello.", "ended")]


async def test_unknown_voice_is_an_error_that_makes_the_service_unusable(gateway: Any) -> None:
    _, up = await run(CsmTTSService(gateway.target, voice="nobody"), reply("Hello."))
    errors = [frame for frame in up if isinstance(frame, frames.ErrorFrame)]
    assert any("nobody" in error.error for error in errors)


async def test_missing_server_is_a_failure_of_the_connection() -> None:
    service = CsmTTSService("127.0.0.1:1", timeout_s=5)
    _, up = await run(service, reply("Hello."))
    errors = [frame for frame in up if isinstance(frame, frames.ErrorFrame)]
    assert errors and errors[0].category.value == "connectivity" and service.is_usable


def test_encoding_cannot_be_chosen() -> None:
    with pytest.raises(ValueError, match="PCM"):
        CsmTTSService("127.0.0.1:1", speech={"encoding": "opus"})


async def test_wrong_option_is_one_error_of_each_turn_and_ends_it() -> None:
    service = CsmTTSService("127.0.0.1:1", speech={"max_seconds": "long"})  # type: ignore[arg-type]
    _, up = await run(service, reply("Good ", "mor", "ning.") + reply("Good night."))
    errors = [frame.error for frame in up if isinstance(frame, frames.ErrorFrame)]
    assert len([error for error in errors if "max_seconds is of type str" in error]) == 2
    assert not service._turns


async def test_a_token_whose_turn_is_interrupted_while_it_waits_is_not_sent() -> None:
    service: Any = CsmTTSService("127.0.0.1:1")
    tokens = asyncio.Queue[str | None](1)
    tokens.put_nowait("taken ")
    speaking = asyncio.ensure_future(asyncio.sleep(60))
    waiting = asyncio.ensure_future(service._send(pipecat._Turn(tokens, speaking), "late"))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert tokens.get_nowait() == "taken "
    await asyncio.sleep(0.01)
    assert tokens.empty()
    speaking.cancel()
