"""The forms in which the next_answer benchmark returns answers reach the engine as it says."""

from __future__ import annotations

from bench.listeners.next_answer import FORMS, measure
from tests.support.fake_deployment import fake_deployment


async def test_each_form_of_context_reaches_the_engine() -> None:
    async with fake_deployment() as deployment:
        rows = await measure(deployment.target, conversations=1, answers=3, seed=1)
        contexts = [call.request.segments[:-1] for call in deployment.engine.calls]
        encoded = len(deployment.codec.encoded)
    assert [(row["returned as"], row["answers"]) for row in rows] == [(form, 2) for form in FORMS]
    first_sentences = contexts[3 + 9 :: 3]  # behind the warm-up and the first answers; an answer has three sentences
    # The question, the answer, the next question: an answer is three segments, or one.
    assert [len(context) for context in first_sentences[:3]] == [5, 3, 3]
    assert [len(context) for context in first_sentences[3:]] == [9, 5, 5]
    assert encoded == 1 + 2  # of the recordings: one with the second answer, two with the third
