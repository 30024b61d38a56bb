"""A gateway that is killed under a text: the client goes on at another one, no sample differs, and what was said is not
made again.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import csm_client
import pytest
from csm_client.errors import IncompleteAudioError

from tests.clients.python.lost_gateway.test_lost_gateway import Gateways, Listener, running_gateways
from tests.services.all_in_one.test_programs import environment
from tests.support.fake_stages import FRAME_SAMPLES, FakeCodec, FakeEngine, Script, numbered_audio
from tests.support.waits import eventually

pytestmark = pytest.mark.timeout(120)

PIECES = ("One is he", "re. Two", " is here. Three", " is ", "here.")
SENTENCES = ["One is here.", "Two is here.", "Three is here."]
FRAMES, HELD_AT = 20, 10  # of each sentence
LATE = 18  # frame of a sentence before which the engine is held: the caller has got a checkpoint inside of it
SENTENCE = numbered_audio(range(FRAMES))
AUDIO = 3 * SENTENCE


class HeldSentence(Script):
    """Holds one sentence, by its number among the calls of a stage."""

    def __init__(self, stage: FakeCodec | FakeEngine, number: int, at: int = HELD_AT) -> None:
        super().__init__(pause_at=at)
        self._calls, self._number = stage.calls, number

    async def reach(self, frame: int) -> None:
        if len(self._calls) == self._number + 1:
            await super().reach(frame)


@pytest.fixture
async def gateways(tmp_path: Path) -> AsyncIterator[Gateways]:
    async with running_gateways(tmp_path, seals=True) as running:
        running.deployment.engine.frame_count = FRAMES
        yield running


@pytest.fixture
async def gateways_without_keys(tmp_path: Path) -> AsyncIterator[Gateways]:
    async with running_gateways(tmp_path) as running:
        running.deployment.engine.frame_count = FRAMES
        yield running


async def lose(gateways: Gateways, held: int, has_audio: Callable[[], object]) -> None:
    """Kills the gateway of the only text in the middle of that sentence, once its caller has audio."""
    codec = gateways.deployment.codec
    codec.script = HeldSentence(codec, held)
    async with asyncio.timeout(60):
        await codec.script.paused.wait()
        await eventually(has_audio)
        calls = (*codec.calls, *gateways.deployment.engine.calls)
        gateways.kill_maker_of(gateways.deployment.engine.calls[0])
        await asyncio.gather(*(call.ended.wait() for call in calls))


async def lose_late(gateways: Gateways, held: int, heard_samples: Callable[[], int]) -> None:
    """Kills the gateway of the only text late in that sentence, before the engine has ended it. Called first of all."""
    engine = gateways.deployment.engine
    engine.script = script = HeldSentence(engine, held, LATE)
    async with asyncio.timeout(30):
        await script.paused.wait()
        heard = (FRAMES * held + LATE - 3) * FRAME_SAMPLES  # encoders may hold some back
        await eventually(lambda: heard_samples() >= heard)
        engine.script, lost = Script(), engine.calls[-1]
        gateways.kill_maker_of(lost)
        await lost.ended.wait()


def check_resumes_inside(gateways: Gateways, held: int) -> None:
    """Told frames of the lost sentence are not made again. Called before anything else is said."""
    calls = gateways.deployment.engine.calls
    assert [call.request.segments[-1].text for call in calls] == [*SENTENCES[: held + 1], *SENTENCES[held:]]
    assert calls[held + 1].request.resume_frames.frame_count >= 8


def requests_of(gateways: Gateways) -> list[Any]:
    """What the engine was asked for, sentence by sentence, as far as it decides the samples."""
    requests = [call.request for call in gateways.deployment.engine.calls]
    return [(request.segments, request.sampling_params, request.max_frame_count) for request in requests]


@pytest.mark.parametrize(
    ("held", "written", "options"),
    [
        pytest.param(1, 3, {}, id="second sentence, half written, seed got"),
        pytest.param(0, 2, {"seed": 7}, id="first sentence, half written, seed set", marks=pytest.mark.slow),
        pytest.param(2, 5, {"encoding": "opus"}, id="last sentence, all written, opus", marks=pytest.mark.slow),
        pytest.param(2, 5, {"encoding": "flac"}, id="last sentence, all written, flac", marks=pytest.mark.slow),
    ],
)
async def test_a_text_resumes_at_another_gateway_bit_for_bit(
    gateways: Gateways, held: int, written: int, options: Any
) -> None:
    """written: pieces before the loss"""
    lost_ones, resumed = await lose_and_resume(gateways, held, written, options)
    assert held < len(lost_ones) <= 3
    calls = gateways.deployment.engine.calls[len(lost_ones) : -3]
    made = [call.frame_count for call in calls]  # the sentence that was lost may be told by a checkpoint inside of it
    assert made in ([FRAMES] * (3 - held), [FRAMES] * (2 - held)), "no frame of a said sentence is made again"
    again = lost_ones[: 3 - len(resumed)] + resumed
    assert requests_of(gateways)[-3:] == again and lost_ones == again[: len(lost_ones)]
    lost_frames = 2 * FRAMES * held if options.get("encoding") == "opus" else FRAMES * held  # Opus is encoded again
    calls = gateways.deployment.codec.calls
    assert sum(call.frame_count for call in calls[:-3]) <= lost_frames + FRAMES + FRAMES * (3 - held)


@pytest.mark.parametrize(
    ("held", "encoding"),
    [(0, "pcm"), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1, "pcm"), (2, "flac"), (1, "opus")))],
)
async def test_a_text_resumes_inside_the_lost_sentence(gateways: Gateways, held: int, encoding: Any) -> None:
    async with csm_client.AsyncClient(gateways.target, timeout_s=100) as client:
        listener = Listener(client.stream_synthesize_text(PIECES, seed=7, encoding=encoding))
        await lose_late(gateways, held, lambda: sum(chunk.sample_count for chunk in listener.chunks))
        heard = await listener.task
        check_resumes_inside(gateways, held)
        again = gateways.deployment.codec.calls[held + 1 :]
        assert bool(again[0].request.checkpoint) == (encoding != "opus")  # nor decoded, where the encoder can go on
        assert len(again) == (3 if encoding == "opus" else 3 - held)
        undisturbed = await Listener(client.stream_synthesize_text(PIECES, seed=7, encoding=encoding)).task
    assert heard == undisturbed and (encoding != "pcm" or heard == AUDIO)
    assert [sentence.text for sentence in listener.stream.sentences] == SENTENCES


@pytest.mark.slow
async def test_a_text_restarts_at_a_gateway_without_keys(gateways_without_keys: Gateways) -> None:
    lost_ones, resumed = await lose_and_resume(gateways_without_keys, 1, 3, {})
    assert len(resumed) == 3 and lost_ones == resumed[: len(lost_ones)]
    assert not gateways_without_keys.deployment.engine.calls[len(lost_ones)].request.live  # it has been heard


async def lose_and_resume(gateways: Gateways, held: int, written: int, options: Any) -> tuple[list[Any], list[Any]]:
    """The engine's requests of the lost gateway and of the one that went on. The whole text is then said once more."""
    lost = asyncio.Event()

    async def pieces() -> AsyncIterator[str]:
        for number, piece in enumerate(PIECES):
            if number == written:
                await lost.wait()
            yield piece

    async with csm_client.AsyncClient(gateways.target, timeout_s=100) as client:
        stream = client.stream_synthesize_text(pieces(), **options)
        listener = Listener(stream)
        await lose(gateways, held, lambda: len(stream.sentences) > held)
        num_lost = len(gateways.deployment.engine.calls)
        lost.set()
        heard = await listener.task
        assert stream.header is not None
        again = await Listener(client.stream_synthesize_text(PIECES, **(options | {"seed": stream.header.seed}))).task
    assert heard == again and (options.get("encoding") or heard == AUDIO)
    assert [sentence.text for sentence in stream.sentences] == SENTENCES
    assert [sentence.sample_offset for sentence in stream.sentences] == [
        0,
        FRAMES * FRAME_SAMPLES,
        2 * FRAMES * FRAME_SAMPLES,
    ]
    requests = requests_of(gateways)
    return requests[:num_lost], requests[num_lost:-3]


async def test_the_synchronous_client_resumes_a_text(gateways: Gateways) -> None:
    lost = threading.Event()

    def pieces() -> Iterator[str]:
        for number, piece in enumerate(PIECES):
            if number == 3:
                lost.wait(60)
            yield piece

    with csm_client.Client(gateways.target, timeout_s=100) as client:
        stream = client.stream_synthesize_text(pieces(), seed=7)
        listening = asyncio.create_task(asyncio.to_thread(stream.read_all))
        await lose(gateways, 1, lambda: stream.sentences)
        lost.set()
        speech = await listening
    assert speech.samples == AUDIO
    assert [sentence.text for sentence in stream.sentences] == SENTENCES


async def test_the_synchronous_client_resumes_inside_the_lost_sentence(gateways: Gateways) -> None:
    heard = bytearray()

    def listen(stream: csm_client.SpeechStream) -> None:
        for chunk in stream:
            heard.extend(chunk.audio_content)

    with csm_client.Client(gateways.target, timeout_s=100) as client:
        listening = asyncio.create_task(asyncio.to_thread(listen, client.stream_synthesize_text(PIECES, seed=7)))
        await lose_late(gateways, 1, lambda: len(heard) // 2)
        await listening
    check_resumes_inside(gateways, 1)
    assert heard == AUDIO


@pytest.mark.slow
async def test_a_text_from_standard_input_resumes(gateways: Gateways, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "csm_client", "say", "-", "--target", gateways.target, "--out", "-"]
    program = await asyncio.create_subprocess_exec(
        *command, "--encoding", "pcm", stdin=PIPE, stdout=PIPE, env=environment(), limit=2 * len(AUDIO)
    )
    assert program.stdin is not None and program.stdout is not None
    program.stdin.write("".join(PIECES[:3]).encode())
    heard = bytearray(await program.stdout.readexactly(2))
    await lose(gateways, 1, lambda: heard)
    program.stdin.write("".join(PIECES[3:]).encode())
    program.stdin.close()
    heard += await program.stdout.read()
    assert await program.wait() == 0
    assert heard == AUDIO


@pytest.mark.slow
async def test_a_text_too_long_to_resume_raises_with_the_reason(gateways: Gateways) -> None:
    async with csm_client.AsyncClient(gateways.target, timeout_s=100) as client:
        listener = Listener(client.stream_synthesize_text([*[" " * 999] * 300, *PIECES]))
        await lose(gateways, 0, lambda: listener.chunks)
        with pytest.raises(IncompleteAudioError, match="over 256 KiB") as failed:
            await listener.task
    assert isinstance(failed.value.__cause__, csm_client.UnavailableError)


@pytest.mark.slow
async def test_a_text_can_be_cancelled_while_it_resumes(gateways: Gateways) -> None:
    async with csm_client.AsyncClient(gateways.target, timeout_s=100) as client:
        listener = Listener(client.stream_synthesize_text(PIECES, seed=7))
        await lose(gateways, 1, lambda: listener.chunks)
        listener.stream.cancel()
        with pytest.raises(csm_client.CsmClientError):
            await listener.task
    assert sum(chunk.sample_count for chunk in listener.chunks) < len(AUDIO) // 2
