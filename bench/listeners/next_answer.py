"""First audio of a conversation's next answer, by the form in which the caller returns the earlier answers.

    python -m bench.listeners.next_answer --out bench/results/next_answer_builtin_cpu.json

One speaker asks a sentence, the other answers three. The context holds all earlier questions and answers. The form of
the answers in it is one of:

    sentences   codes as the server returned them: the model gets the same sentences that it generated
    one turn    these codes without `utterances`: the model gets each answer as one long turn
    recording   the sound of the answer as a WAV file, which the codec encodes

Each form has conversations of its own, so that none finds the keys and values of another. The forms take turns. The
first answer of a conversation has no earlier one and is not counted. The time is the caller's, from the call to the
first chunk of audio.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from random import Random
from typing import Any

from csm.rvq.v1 import rvq_pb2
from csm_client import AsyncClient, Turn
from csm_client.speech import codes_of

from bench.command import result_parser
from bench.listeners.own_server import own_server
from bench.listeners.workload import PROMPTS
from bench.machine import result_head
from bench.report import write_result
from tests.support.wav import wav_of

SENTENCES = [prompt for prompt in PROMPTS if ". " not in prompt]
FORMS = ("sentences", "one turn", "recording")
SENTENCES_OF_AN_ANSWER = 3
ASKING, ANSWERING = 0, 1  # speakers


class Conversation:
    """A conversation whose answers return in one form."""

    def __init__(self, client: AsyncClient, form: str, seed: int) -> None:
        self._client, self._form, self._seed = client, form, seed
        self._random = Random(seed)
        self._turns: list[Turn] = []

    async def next_answer(self) -> float:
        """Seconds until the first audio of the answer to one more question."""
        self._turns.append(Turn(ASKING, self._random.choice(SENTENCES)))
        text = " ".join(self._random.sample(SENTENCES, SENTENCES_OF_AN_ANSWER))
        self._seed += 1
        asked_at, first_audio_s, samples = time.monotonic(), 0.0, bytearray()
        stream = self._client.stream_synthesize(
            text, speaker=ANSWERING, context=self._turns, seed=self._seed, return_codes=True
        )
        async for chunk in stream:
            first_audio_s = first_audio_s or time.monotonic() - asked_at
            samples += chunk.audio_content
        assert stream.header is not None and stream.summary is not None
        codes = codes_of(stream.summary)
        assert isinstance(codes, rvq_pb2.CodeFrames) and codes.utterances
        if self._form == "recording":
            rate_hz = stream.header.audio_format.sample_rate_hertz
            self._turns.append(Turn(ANSWERING, text, wav=wav_of(bytes(samples), rate_hz)))
        else:
            if self._form == "one turn":
                del codes.utterances[:]
            self._turns.append(Turn(ANSWERING, text, codes=codes))
        return first_audio_s


async def measure(target: str, conversations: int, answers: int, seed: int) -> list[dict[str, Any]]:
    """A row for each form."""
    seconds: dict[str, list[float]] = {form: [] for form in FORMS}
    async with AsyncClient(target) as client:
        await Conversation(client, FORMS[0], seed - 1).next_answer()  # the first call of a process takes longer
        for number in range(conversations):
            # Seeds far apart, so that no two conversations have an answer in common.
            running = {form: Conversation(client, form, seed + 1000 * (3 * number + i)) for i, form in enumerate(FORMS)}
            for answer in range(answers):
                for form, conversation in running.items():
                    first_audio_s = await conversation.next_answer()
                    if answer:
                        seconds[form].append(first_audio_s)
    rows = [
        {
            "returned as": form,
            "answers": len(found),
            "first_audio_p50_ms": round(1000 * statistics.median(found), 1),
            "first_audio_p90_ms": round(1000 * statistics.quantiles(found, n=10)[-1], 1),
        }
        for form, found in seconds.items()
    ]
    print(*map(json.dumps, rows), sep="\n", flush=True)
    return rows


def main() -> None:
    parser = result_parser("bench.listeners.next_answer", __doc__)
    parser.add_argument("--bundle", default="bundles/builtin")
    parser.add_argument("--conversations", type=int, default=5, help="of each form")
    parser.add_argument("--answers", type=int, default=6, help="of a conversation; at least 3")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    head = result_head("next_answer", note=options.note, bundle=options.bundle)
    os.environ["CSM_GATEWAY_CODE_SEALING"] = "open"  # of the server: the form "one turn" needs to change the codes

    async def serve_and_measure() -> list[dict[str, Any]]:
        async with own_server(options.bundle, []) as target:
            return await measure(target, options.conversations, options.answers, options.seed)

    write_result(head | {"rows": asyncio.run(serve_and_measure())}, options.out)


if __name__ == "__main__":
    main()
