"""The next turn reuses the keys and values of an answer of several sentences, with real engines."""

from __future__ import annotations

from typing import Any

import pytest
from csm.v1 import tts_pb2

from csm_engine.scheduling.sequence import Sequence
from tests.services.all_in_one.test_survival import Deployment
from tests.services.all_in_one.texts.engines import FRAMES
from tests.support.waits import eventually

ANSWER = "This is one. This is two. This is three. This is four."
QUESTION = "And what is five?"
Request = tts_pb2.StreamSynthesizeRequest


@pytest.fixture
def conversation(asked: Request) -> Request:
    asked.conversation_id, asked.return_codes, asked.input.speaker = "a talk", True, 1
    asked.stream_config.send_checkpoints = False
    return asked


async def say(deployment: Deployment, request: Request, text: str, *turns: tts_pb2.Turn) -> Any:
    given = Request()
    given.CopyFrom(request)
    given.input.text = text
    given.context.turns.extend(turns)
    return [message async for message in deployment.stub.StreamSynthesize(given)][-1].summary


async def test_the_next_turn_computes_new_rows_only(
    deployment: Deployment, ended: list[Sequence], conversation: Request
) -> None:
    asks = tts_pb2.Turn(speaker=0, text="What can you count?")
    answer = await say(deployment, conversation, ANSWER, asks)
    answers = tts_pb2.Turn(speaker=1, text=ANSWER, audio=tts_pb2.TurnAudio(sealed_codes=answer.sealed_codes))
    asks_more = tts_pb2.Turn(speaker=0, text=QUESTION)
    await say(deployment, conversation, "Five.", asks, answers, asks_more)
    await eventually(lambda: len(ended) == 5)
    *earlier, last = ended
    whole = earlier[-1].prompt
    assert last.prompt.rows[: len(whole)].tobytes() == whole.rows.tobytes()
    assert last.reused >= len(whole) + FRAMES - 1  # the last frame of a sentence at its limit has no keys yet
    assert last.prompt.dropped_segments == 0


async def test_another_text_of_the_answer_changes_the_prompt(
    deployment: Deployment, ended: list[Sequence], conversation: Request
) -> None:
    """One turn, which begins like the first sentence and goes on with the second one's words."""
    answer = await say(deployment, conversation, ANSWER)
    audio = tts_pb2.TurnAudio(sealed_codes=answer.sealed_codes)
    await say(deployment, conversation, "Five.", tts_pb2.Turn(speaker=1, text=ANSWER + " Well.", audio=audio))
    await eventually(lambda: len(ended) == 5)
    assert ended[-1].reused <= ended[0].prompt.text_token_count < len(ended[-1].prompt) / 4
