"""Voice prompts of the bundle, as gateways get them from an engine."""

from __future__ import annotations

from typing import Any

import pytest
from csm.engine.v1 import engine_pb2

from csm_bundle.voice_folder import FolderVoice
from services.engine.servicer import EngineServicer
from tests.support.fake_stages import fake_frames


@pytest.mark.parametrize("is_codes", [False, True])
async def test_prompt_comes_with_the_digest_that_identifies_it(is_codes: bool) -> None:
    recording = b"" if is_codes else b"RIFF"
    codes = fake_frames(0, 2).SerializeToString() if is_codes else b""
    voice = FolderVoice("eve", 0, "Hello.", recording, codes, None, (), "", None, None, digest="d0")
    nothing: Any = None
    info = engine_pb2.GetModelInfoResponse()
    servicer = EngineServicer(nothing, info, nothing, spoken_text=nothing, prompted_voices=[voice], max_batch_frames=1)
    answer = await servicer.GetVoicePrompt(engine_pb2.GetVoicePromptRequest(name="eve"), nothing)
    assert (answer.text, answer.prompt_digest) == ("Hello.", "d0")
    assert (answer.codes == fake_frames(0, 2)) if is_codes else (answer.recording == b"RIFF")
