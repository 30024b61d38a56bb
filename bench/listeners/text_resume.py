"""What it costs to resume a text after the loss of its gateway, by how many of its sentences were spoken.

    python -m bench.listeners.text_resume --out bench/results/text_resume_builtin_cpu.json

A caller plays some sentences and half of the next one, and cancels: to engine and codec that is the loss of a gateway.
Then it requests the text again, without checkpoints ("start") and with them, in turn. Measured is the time until the
first sample that it has not played yet: wall time, and CPU time of the whole server. The server keeps running, so the
engine still has the keys and values of the context, as after the loss of only a gateway.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from csm.v1 import tts_pb2, tts_pb2_grpc

from bench.command import parser_of
from bench.machine import result_head
from bench.report import write_result
from services.all_in_one.settings import AllInOneSettings
from services.all_in_one.stage import start_all_in_one

SENTENCES = (
    "The station is closed.", "Please wait until Monday.", "Emma is tired.", "The train leaves at nine.",
    "It is cold today.", "They sing well.", "We are at home.", "Good morning.",
)  # fmt: skip
SAID = (3, 10, 30)
ENCODINGS = {"pcm": tts_pb2.AUDIO_ENCODING_PCM, "opus": tts_pb2.AUDIO_ENCODING_OGG_OPUS}
IDLE_S = 1.0  # wait in which the work of the last call ends


@dataclass
class Call:
    """What a call has sent until it was cancelled."""

    samples: int = 0
    sentences: list[tts_pb2.Sentence] = field(default_factory=list)
    states: list[bytes] = field(default_factory=list)

    async def run(self, call: Any, sentences: int, samples: int) -> None:
        """Reads the call until it has sent more than that many samples of a sentence, then cancels it.

        sentences: number of the sentence, from 1; 0 counts the samples of the whole text.
        """
        async for message in call:
            match message.WhichOneof("event"):
                case "sentence":
                    self.sentences.append(message.sentence)
                case "checkpoint":
                    self.states.append(message.checkpoint.state)
                case "audio_chunk":
                    self.samples = message.audio_chunk.sample_offset + message.audio_chunk.sample_count
                    if self._has(sentences, samples):
                        break
        call.cancel()

    def _has(self, sentences: int, samples: int) -> bool:
        if len(self.sentences) < sentences:
            return False
        return self.samples > samples + (self.sentences[sentences - 1].sample_offset if sentences else 0)


async def compare(
    names: dict[str, Any], first: Call, go_on: Callable[[Sequence[bytes]], Awaitable[None]], rounds: int
) -> list[dict[str, Any]]:
    """A row for each way to resume. go_on: resumes with the given states, and returns at the first new sample."""
    ways: dict[str, Sequence[bytes]] = {"start": (), "checkpoints": first.states}
    figures: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, states in ways.items():
            await asyncio.sleep(IDLE_S)
            clock_s, cpu_s = time.monotonic(), time.process_time()
            await go_on(states)
            figures[way].append((time.monotonic() - clock_s, time.process_time() - cpu_s))
    return [
        names
        | {
            "heard_s": round(first.samples / 24_000, 2),
            "from": way,
            "first_new_sample_s": round(statistics.median(clock_s for clock_s, _ in found), 3),
            "cpu_s": round(statistics.median(cpu_s for _, cpu_s in found), 3),
            "checkpoint_bytes": sum(map(len, states)),
        }
        for (way, states), found in zip(ways.items(), figures.values(), strict=True)
    ]


class Bench:
    """Measures lost texts at one server."""

    def __init__(self, tts: Any, half_sentence: int) -> None:
        """half_sentence: in samples."""
        self._tts, self._half_sentence = tts, half_sentence

    async def losses(self, said: int, encoding: str, rounds: int) -> list[dict[str, Any]]:
        """A row for each way to resume a text that was lost after `said` sentences."""
        first = Call()
        await first.run(self._open(said, encoding), said + 1, self._half_sentence)
        assert len(first.states) == said

        async def go_on(states: Sequence[bytes]) -> None:
            await Call().run(self._open(said, encoding, first.samples, states), 0, first.samples)

        return await compare({"encoding": encoding, "said": said}, first, go_on, rounds)

    def _open(self, said: int, encoding: str, heard: int = 0, states: Sequence[bytes] = ()) -> Any:
        config = tts_pb2.StreamSynthesizeRequest()
        config.audio_config.audio_encoding = ENCODINGS[encoding]
        config.sampling_params.seed = 5
        config.stream_config.send_checkpoints = True
        config.stream_config.heard_sample_count = heard
        config.stream_config.checkpoints.extend(states)
        text = " ".join(SENTENCES[number % len(SENTENCES)] for number in range(said + 1))
        piece = tts_pb2.TextPiece(text=text)
        message = tts_pb2.StreamSynthesizeTextRequest
        return self._tts.StreamSynthesizeText(iter([message(config=config), message(text=piece)]), timeout=600)


@asynccontextmanager
async def sealing_server(bundle: str) -> AsyncIterator[Any]:
    """Runs a server in this process, with sealed codes. Yields a stub."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CSM_GATEWAY_CODE_SEALING_KEYRING"] = str(Path(folder, "seals.json"))
        settings = AllInOneSettings(
            bundle=bundle, watermark_keyring=Path(folder, "marks.json"), port=0, health_port=0, metrics_port=-1,
            http_port=-1, threads=1, drain_seconds=0,
        )  # fmt: skip
        stage = await start_all_in_one(settings, lambda line: None)
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.port}") as channel:
                yield tts_pb2_grpc.TextToSpeechServiceStub(channel)  # type: ignore[no-untyped-call]
        finally:
            await stage.stop()


async def measure(tts: Any, rounds: int) -> list[dict[str, Any]]:
    bench = Bench(tts, half_sentence=12_000)
    await bench.losses(3, "pcm", 1)  # a warm-up, which does not count
    rows = []
    for encoding in ENCODINGS:
        for said in SAID:
            rows += await bench.losses(said, encoding, rounds)
            print(*map(json.dumps, rows[-2:]), sep="\n", flush=True)
    return rows


def run(
    benchmark: str, description: str | None, measure: Callable[[Any, int], Awaitable[list[dict[str, Any]]]]
) -> None:
    """The main program: starts a server, measures, and writes the result.

    measure: takes the server's stub and the number of rounds, and returns rows.
    """
    parser = parser_of(f"bench.listeners.{benchmark}", description)
    parser.add_argument("--bundle", default="bundles/builtin")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is told")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    head = result_head(benchmark, bundle=arguments.bundle, rounds=arguments.rounds)

    async def serve_and_measure() -> list[dict[str, Any]]:
        async with sealing_server(arguments.bundle) as tts:
            return await measure(tts, arguments.rounds)

    write_result(head | {"rows": asyncio.run(serve_and_measure())}, arguments.out)


if __name__ == "__main__":
    run("text_resume", __doc__, measure)
