"""A text said by sentence is what its sentences are, said one after the other. With the voice in the box, which ends
its sentences by itself.
"""

from __future__ import annotations

import csm_client
from csm.v1 import tts_pb2
from csm_client import Turn

SENTENCES = ("The station is closed.", "Please wait until Monday.", "Emma is tired.")


def test_a_text_is_its_sentences_one_after_the_other(voice_target: str) -> None:
    """Bit for bit, with the seeds that follow the first and the codes of those before as context."""
    with csm_client.Client(voice_target, timeout_s=100) as client:
        turns: list[Turn] = []
        samples, codes = b"", b""
        for index, sentence in enumerate(SENTENCES):
            said = client.stream_synthesize(sentence, speaker=1, seed=5 + index, context=turns, return_codes=True)
            speech = said.read_all()
            samples, codes = samples + speech.samples, codes + speech.summary.codes.codes
            turns.append(Turn(1, sentence, codes=speech.summary.codes))

        stream = client.stream_synthesize_text(" ".join(SENTENCES), speaker=1, seed=5, return_codes=True)
        text = stream.read_all()
    assert text.summary.finish_reason == tts_pb2.FINISH_REASON_END_OF_SPEECH
    assert tuple(sentence.text for sentence in stream.sentences) == SENTENCES
    assert text.summary.codes.codes == codes
    assert text.samples == samples
    assert text.summary.stats.dropped_turn_count == 0
