"""The states of one call in a chain, of which a gateway may not know all."""

from __future__ import annotations

from pathlib import Path

from csm.gateway.v1 import made_frames_pb2

from services.gateway.auth.code_sealing import STATE_MAGIC, CodeSeal
from services.gateway.rpc.checkpoints.sealed_chain import SealedChain

State = made_frames_pb2.MadeFrames


def test_a_call_that_begins_anew_begins_a_new_chain(tmp_path: Path) -> None:
    """Its caller drops the states of before, also those that this gateway knows."""
    seal = CodeSeal(tmp_path / "seals.json")

    def chain() -> SealedChain:
        return SealedChain(seal, b"request", "stream_config.checkpoints")

    known = chain().seal(State(sent_sample_count=1))
    of_a_later_version = STATE_MAGIC[:-1] + bytes([STATE_MAGIC[-1] + 1]) + b"unknown"
    anew = chain()
    assert anew.open([known, of_a_later_version], State) == []
    states = [anew.seal(State(sent_sample_count=number)) for number in (2, 3)]
    assert [state.sent_sample_count for state in chain().open(states, State)] == [2, 3]
