"""Two real engines, what they have computed, and a request for a text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from csm.v1 import tts_pb2

from csm_engine.scheduling.sequence import Sequence
from services.engine.metrics import EngineMetrics
from tests.services.all_in_one.test_survival import Deployment, two_of_each
from tests.services.all_in_one.texts.engines import SEALED


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[Sequence]:
    """The engines' sequences that have ended."""
    sequences: list[Sequence] = []
    observe_end = EngineMetrics.observe_end

    def observe(self: EngineMetrics, sequence: Sequence) -> None:
        sequences.append(sequence)
        observe_end(self, sequence)

    monkeypatch.setattr(EngineMetrics, "observe_end", observe)
    return sequences


@pytest.fixture
async def deployment(bundle: Path, keyring: Path, tmp_path: Path, ended: list[Sequence]) -> AsyncIterator[Deployment]:
    async with two_of_each(bundle, keyring, code_sealing_keyring=tmp_path / "seals.json", **SEALED) as running:
        yield running


@pytest.fixture
def asked() -> tts_pb2.StreamSynthesizeRequest:
    config = tts_pb2.StreamSynthesizeRequest()
    config.audio_config.audio_encoding = tts_pb2.AUDIO_ENCODING_PCM
    config.sampling_params.seed, config.stream_config.send_checkpoints = 5, True
    return config
