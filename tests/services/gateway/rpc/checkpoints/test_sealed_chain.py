"""Chains of checkpoint states, some of which a gateway cannot read."""

from __future__ import annotations

from pathlib import Path

from csm.gateway.v1 import utterance_state_pb2
from csm.v1 import tts_pb2

from services.gateway.auth.code_sealing import STATE_MAGIC, CodeSeal
from services.gateway.rpc.checkpoints.sealed_chain import SealedChain
from tests.services.gateway.rpc.checkpoints.sealing_gateway import sealing_gateway
from tests.services.gateway.rpc.checkpoints.test_inside_sentences import TEXT, run_in_lockstep
from tests.services.gateway.rpc.checkpoints.texts import ResumePoint, receive

State = utterance_state_pb2.UtteranceState


def test_a_restarted_call_begins_a_new_chain(tmp_path: Path) -> None:
    """The caller then drops all earlier states, also those that this gateway can read."""
    seal = CodeSeal(tmp_path / "seals.json")

    def chain() -> SealedChain:
        return SealedChain(seal, b"request", "stream_config.checkpoints")

    known = chain().seal(State(sent_sample_count=1))
    of_a_later_version = STATE_MAGIC[:-1] + bytes([STATE_MAGIC[-1] + 1]) + b"unknown"
    anew = chain()
    assert anew.open([known, of_a_later_version], State) == []
    states = [anew.seal(State(sent_sample_count=number)) for number in (2, 3)]
    assert [state.sent_sample_count for state in chain().open(states, State)] == [2, 3]


async def test_speech_checkpoints_are_ignored_after_unreadable_text_checkpoints(
    tmp_path: Path, config: tts_pb2.StreamSynthesizeRequest
) -> None:
    """As after a change of keys in the middle of a text, which is made again from its start."""
    config.sampling_params.seed, config.stream_config.send_checkpoints = 7, True
    later_version = STATE_MAGIC[:-1] + b"\xff"
    async with sealing_gateway(tmp_path / "seals.json") as (deployment, tts):
        run_in_lockstep(deployment)
        whole = await receive(tts, config, TEXT)
        again = await receive(
            tts,
            config,
            TEXT,
            ResumePoint(sentence_states=(later_version,), speech_states=whole.inside_sentences[0].speech_states),
        )
        assert again.content == whole.content and not again.header.resumed_frame_count
        after = again.inside_sentences[-1]
        assert (await receive(tts, config, TEXT, after)).content == whole.content[after.num_bytes :]
