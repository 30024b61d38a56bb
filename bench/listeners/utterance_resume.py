"""What it costs to resume one utterance after the loss of its gateway, by how much of it was played.

    python -m bench.listeners.utterance_resume --out bench/results/utterance_resume_builtin_cpu.json

As `text_resume`, with StreamSynthesize: a caller hears so many seconds and leaves. The utterance is asked for again,
without checkpoints ("start") and with them, in turn, until the first sample that the caller has not heard yet.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from csm.v1 import tts_pb2

from bench.listeners.text_resume import ENCODINGS, IDLE_S, SENTENCES, Call, compare, run

TEXT = " ".join(4 * SENTENCES)
# So hot the built-in voice speaks for 17 s; with its own sampling 9 s are the most. No cost depends on what is said.
SAMPLING = tts_pb2.SamplingParams(seed=6, temperature=1.2, top_k=1000)
HEARD_S = (3, 10, 16)


async def losses(tts: Any, heard_s: int, encoding: str, rounds: int) -> list[dict[str, Any]]:
    """A row for each way to resume the utterance."""

    def open_call(heard: int = 0, states: Sequence[bytes] = ()) -> Any:
        request = tts_pb2.StreamSynthesizeRequest()
        request.input.text = TEXT
        request.audio_config.audio_encoding = ENCODINGS[encoding]
        request.sampling_params.CopyFrom(SAMPLING)
        request.stream_config.send_checkpoints = True
        request.stream_config.heard_sample_count = heard
        request.stream_config.checkpoints.extend(states)
        return tts.StreamSynthesize(request, timeout=600)

    async def go_on(states: Sequence[bytes]) -> None:
        await Call().run(open_call(first.samples, states), 0, first.samples)

    first = Call()
    await first.run(open_call(), 0, 24_000 * heard_s)
    return await compare({"encoding": encoding}, first, go_on, rounds)


async def measure(tts: Any, rounds: int) -> list[dict[str, Any]]:
    await losses(tts, 1, "pcm", 1)  # a warm-up, which does not count
    rows = []
    for encoding in ENCODINGS:
        for heard_s in HEARD_S:
            await asyncio.sleep(IDLE_S)
            rows += await losses(tts, heard_s, encoding, rounds)
            print(*map(json.dumps, rows[-2:]), sep="\n", flush=True)
    return rows


if __name__ == "__main__":
    run("utterance_resume", __doc__, measure)
