"""clients/node under the loss of a gateway: it goes on at another one, and no sample differs."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import subprocess
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import csm_client
import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc

from services.common.rpc.status import StatusError, abort
from tests.clients.python.lost_gateway import test_lost_gateway_texts as texts
from tests.clients.python.lost_gateway import test_lost_gateway_utterances as utterances
from tests.clients.python.lost_gateway.test_lost_gateway import AUDIO, FRAMES, HELD_AT, Gateways, running_gateways
from tests.support.fake_stages import FRAME_SAMPLES, SAMPLE_RATE_HZ
from tests.support.waits import eventually

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]


async def say_and_kill(gateways: Gateways, node: Any, *arguments: str, heard_s: float = 0.0) -> tuple[int, str]:
    """Exit code and standard error of the client, whose gateway is killed in the middle of its audio.

    heard_s: of audio, that it has at least
    """
    codec = gateways.deployment.codec
    codec.script.pause_at = HELD_AT
    client = await asyncio.create_subprocess_exec(
        *node.command(gateways.target, "Hello.", *arguments), stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(100):
        assert client.stderr is not None
        heard = bytearray(await client.stderr.readuntil(b"s of audio"))
        while seconds_in(heard) < heard_s:
            heard += await client.stderr.readuntil(b"s of audio")
        await eventually(lambda: codec.calls[0].frame_count >= HELD_AT)
        gateways.kill_maker_of(gateways.deployment.engine.calls[0])
        await codec.calls[0].ended.wait()
        codec.script.pause_at = None
        codec.script.resume.set()
        stderr = heard + (await client.communicate())[1]
    assert client.returncode is not None
    return client.returncode, stderr.decode()


LOSSES = """
import { status } from '@grpc/grpc-js';
import { Heard } from './streaming/heard.mjs';
import { Losses } from './streaming/losses.mjs';

let now = 0;
Date.now = () => now;
const losses = new Losses(3, Infinity);
const heard = Object.assign(new Heard(), { header: { seed: 7 } });
const delays = (count) => Array.from({ length: count }, () => losses.delayAfter({ code: status.UNAVAILABLE }, heard));
const found = [delays(2)];
now += 60_000;
heard.samples += 1;
found.push(delays(2));
now += 59_999;
heard.samples += 1;
found.push(delays(2));
now += 120_000; // no audio has come since
found.push(delays(1));
console.log(JSON.stringify(found));
"""


def test_losses_minutes_apart_do_not_use_up_the_resumes(node: Any) -> None:
    command = ["node", "--input-type=module", "--eval", LOSSES]
    run = subprocess.run(command, cwd=node.folder, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(run.stdout) == [[100, 200], [100, 200], [400, None], [None]]


@pytest.mark.parametrize("arguments", [[], ["--seed", "7"]], ids=["seed got", "seed set"])
async def test_a_stream_resumes_at_another_gateway_bit_for_bit(tmp_path: Path, node: Any, arguments: list[str]) -> None:
    async with running_gateways(tmp_path) as gateways:
        code, stderr = await say_and_kill(gateways, node, *arguments)
        assert code == 0, stderr
        with wave.open(str(node.out), "rb") as audio:
            assert audio.readframes(audio.getnframes()) == AUDIO
        assert len(gateways.deployment.codec.calls) == 2


class Answers(tts_pb2_grpc.TextToSpeechServiceServicer):
    """Loses the first call after its first audio, refuses the second one for the quota, and answers the third."""

    def __init__(self, counted: int) -> None:
        """counted: samples, by the summary"""
        self.calls = 0
        self._counted = counted

    async def StreamSynthesize(self, request: Any, context: Any) -> AsyncIterator[tts_pb2.StreamSynthesizeResponse]:
        self.calls += 1
        if self.calls == 2:
            quota = StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED", "too many", retry_delay_s=1.0)
            await abort(context, quota)
        form = tts_pb2.AudioFormat(audio_encoding="AUDIO_ENCODING_PCM", sample_rate_hertz=24_000, channel_count=1)
        yield tts_pb2.StreamSynthesizeResponse(header=tts_pb2.SynthesisHeader(seed=5, audio_format=form))
        chunk = tts_pb2.AudioChunk(audio_content=b"ab", sample_count=1)
        yield tts_pb2.StreamSynthesizeResponse(audio_chunk=chunk)
        if self.calls == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "lost")
        stats = tts_pb2.SynthesisStats(sample_count=self._counted)
        yield tts_pb2.StreamSynthesizeResponse(summary=tts_pb2.SynthesisSummary(stats=stats))


@pytest.mark.parametrize("counted", [1, 2])
async def test_a_quota_held_by_the_lost_call_is_waited_for(node: Any, listen: Any, counted: int) -> None:
    answers = Answers(counted)
    target = await listen(tts_pb2_grpc.add_TextToSpeechServiceServicer_to_server, answers)
    client = await asyncio.create_subprocess_exec(*node.command(target, "Hello."), stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(100):
        _, stderr = await client.communicate()
    assert answers.calls == 3
    assert (client.returncode == 0) == (counted == 1), stderr
    assert (b"The server counts 2 samples, but 1 came" in stderr) == (counted == 2)


async def test_a_call_lost_before_its_header_is_retried(tmp_path: Path, node: Any) -> None:
    async with running_gateways(tmp_path) as gateways, asyncio.timeout(100):
        engine = gateways.deployment.engine
        engine.may_start.clear()
        client = await asyncio.create_subprocess_exec(
            *node.command(gateways.target, "Hello."), stderr=asyncio.subprocess.PIPE
        )
        await gateways.kill_before_header()
        _, stderr = await client.communicate()
        assert client.returncode == 0, stderr
        with wave.open(str(node.out), "rb") as audio:
            assert audio.readframes(audio.getnframes()) == AUDIO
        assert len(engine.calls) == 2


async def test_compressed_audio_resumes(tmp_path: Path, node: Any) -> None:
    async with running_gateways(tmp_path) as gateways:
        mp3 = dataclasses.replace(node, out=tmp_path / "speech.mp3")
        code, stderr = await say_and_kill(gateways, mp3, "--seed", "7")
        assert code == 0, stderr
        async with csm_client.AsyncClient(gateways.target) as client:
            undisturbed = await client.stream_synthesize("Hello.", seed=7, encoding="mp3").read_all()
        assert mp3.out.read_bytes() == undisturbed.samples


@pytest.mark.parametrize("suffix", ["wav", "flac", "opus"])
async def test_received_frames_are_not_generated_again(tmp_path: Path, node: Any, suffix: str) -> None:
    async with running_gateways(tmp_path, seals=True) as gateways:
        named = dataclasses.replace(node, out=tmp_path / f"speech.{suffix}")
        code, stderr = await say_and_kill(gateways, named, "--seed", "7", heard_s=1.0)
        assert code == 0, stderr
        calls = gateways.deployment.engine.calls
        assert sum(map(utterances.made_by, calls)) < 2 * FRAMES and calls[-1].frame_count == FRAMES
        _, again = gateways.deployment.codec.calls
        assert bool(again.request.checkpoint) == (suffix != "opus")  # nor decoded, where the encoder can go on
        async with csm_client.AsyncClient(gateways.target) as client:
            encoding: Any = {"wav": "pcm"}.get(suffix, suffix)
            undisturbed = await client.stream_synthesize("Hello.", seed=7, encoding=encoding).read_all()
        assert named.out.read_bytes().endswith(undisturbed.samples)


async def test_resuming_can_be_turned_off(tmp_path: Path, node: Any) -> None:
    async with running_gateways(tmp_path) as gateways:
        code, stderr = await say_and_kill(gateways, node, "--resumes", "0")
        assert code == 1 and "UNAVAILABLE" in stderr
        assert not node.out.exists()


async def type_and_kill(
    gateways: Gateways, node: Any, held: int, before: str, after: str, *arguments: str
) -> tuple[int, str]:
    """The same with a text from standard input, whose gateway is lost in that sentence. before, after: the loss"""
    gateways.deployment.engine.frame_count = texts.FRAMES
    client = await asyncio.create_subprocess_exec(
        *node.command(gateways.target, "-", *arguments), stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert client.stdin is not None and client.stderr is not None
    client.stdin.write(before.encode())
    heard = bytearray()

    async def listen(stderr: asyncio.StreamReader) -> None:
        while piece := await stderr.read(1000):
            heard.extend(piece)

    async with asyncio.timeout(100):
        listening = asyncio.create_task(listen(client.stderr))
        if not after:
            client.stdin.close()
        # The message that tells that the sentence before has ended comes before the audio of this one.
        begun_s = held * texts.FRAMES * FRAME_SAMPLES / SAMPLE_RATE_HZ
        await texts.lose(gateways, held, lambda: seconds_in(heard) > begun_s)
        if after:
            client.stdin.write(after.encode())
            client.stdin.close()
        await listening
        code = await client.wait()
    return code, heard.decode()


def seconds_in(progress: bytearray) -> float:
    """The last number of seconds of audio that the client has told."""
    return float(([b"-1", *re.findall(rb"([0-9.]+) s of audio", progress)])[-1])


@pytest.mark.parametrize(
    ("held", "written", "arguments"),
    [(0, 2, []), (1, 3, ["--seed", "7"]), (2, 5, [])],
    ids=["first sentence, half written", "second sentence, seed set", "last sentence, all written"],
)
async def test_a_text_resumes_at_another_gateway_bit_for_bit(
    tmp_path: Path, node: Any, held: int, written: int, arguments: list[str]
) -> None:
    async with running_gateways(tmp_path, seals=True) as gateways:
        before, after = "".join(texts.PIECES[:written]), "".join(texts.PIECES[written:])
        code, stderr = await type_and_kill(gateways, node, held, before, after, *arguments)
        assert code == 0, stderr
        with wave.open(str(node.out), "rb") as audio:
            assert audio.readframes(audio.getnframes()) == texts.AUDIO
        requests = texts.requests_of(gateways)
        peers = [call.peer for call in gateways.deployment.engine.calls]
        num_lost = peers.count(peers[0])
        lost, resumed = requests[:num_lost], requests[num_lost:]  # no said sentence is made again
        assert held < len(lost) <= 3
        assert lost == [*lost[: 3 - len(resumed)], *resumed][: len(lost)]


async def test_a_text_too_long_to_resume_fails_with_the_reason(tmp_path: Path, node: Any) -> None:
    async with running_gateways(tmp_path) as gateways:
        code, stderr = await type_and_kill(gateways, node, 0, " " * 300_000 + "".join(texts.PIECES), "")
        assert code == 1 and "So long a text does not go on" in stderr
