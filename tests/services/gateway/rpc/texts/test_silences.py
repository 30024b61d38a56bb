"""`silence_without_words`: a text without words is a short silence in every encoding, and no stage is called."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2

from services.gateway.audio.encodings import ENCODINGS
from services.gateway.requests.recordings import read_recording
from services.gateway.requests.violations import Violations
from tests.services.gateway.rpc.checkpoints.sealing_gateway import sealing_gateway
from tests.services.gateway.rpc.texts.test_whole_text import heard, in_pieces
from tests.support.cost.shared import SHARED
from tests.support.fake_deployment import FakeDeployment, failure
from tests.support.fake_stages import FRAME_SAMPLES

THUMB = "\N{THUMBS UP SIGN}"
Request = tts_pb2.StreamSynthesizeRequest


@pytest.fixture
def silent(stream_request: Request) -> Request:
    stream_request.input.text, stream_request.input.silence_without_words = THUMB, True
    stream_request.sampling_params.seed, stream_request.return_codes = 7, True
    return stream_request


@pytest.mark.parametrize("text", [THUMB, " ... \n", " ", ":-)", "<b></b>", "!" * 300 + ":D"])
@SHARED
async def test_a_text_without_words_is_one_silent_frame_and_no_call_of_a_stage(
    shared_deployment: FakeDeployment, shared_tts: Any, silent: Request, text: str
) -> None:
    silent.input.text = text
    unary = tts_pb2.SynthesizeRequest(
        input=silent.input, audio_config=silent.audio_config, sampling_params=silent.sampling_params, return_codes=True
    )
    whole = await shared_tts.Synthesize(unary)
    for content, summary in (
        await heard(shared_tts.StreamSynthesize(silent)),
        await heard(shared_tts.StreamSynthesizeText(in_pieces(silent))),
        (whole.audio_content, whole.summary),
    ):
        assert content == bytes(2 * FRAME_SAMPLES)
        assert summary.finish_reason == tts_pb2.FINISH_REASON_END_OF_SPEECH
        assert summary.stats.sample_count == FRAME_SAMPLES and not summary.stats.frame_count
        assert summary.watermark == tts_pb2.WatermarkInfo()  # nothing is marked
        assert not summary.HasField("codes") and not summary.sealed_codes  # no turn could have them
    assert not shared_deployment.engine.calls and not shared_deployment.codec.calls
    assert whole.seed == 7


@pytest.mark.parametrize("encoding", list(ENCODINGS))
@pytest.mark.parametrize("sample_rate_hz", [8_000, 24_000, 48_000])
@SHARED
async def test_the_silence_is_a_whole_file_of_every_encoding(
    shared_tts: Any, silent: Request, encoding: tts_pb2.AudioEncoding, sample_rate_hz: int
) -> None:
    silent.audio_config.audio_encoding, silent.audio_config.sample_rate_hertz = encoding, sample_rate_hz
    content, _ = await heard(shared_tts.StreamSynthesize(silent))
    form = tts_pb2.AudioFormat(audio_encoding=encoding, sample_rate_hertz=sample_rate_hz, channel_count=1)
    violations = Violations()
    recording = tts_pb2.AudioRecording(audio_content=content, audio_format=form)
    read = read_recording("", recording, violations, 60.0, 60.0)
    assert read is not None, violations.found
    assert 0.07 < read.duration_s < 0.3
    assert max(map(abs, array("h", read.samples))) <= 8  # the smallest sample of A-law


async def test_a_silence_has_neither_checkpoints_nor_sealed_codes(tmp_path: Path, silent: Request) -> None:
    silent.stream_config.send_checkpoints = True
    async with sealing_gateway(tmp_path / "seals.json") as (_, tts):
        for call in (tts.StreamSynthesize(silent), tts.StreamSynthesizeText(in_pieces(silent))):
            kinds = [message.WhichOneof("event") async for message in call]
            assert kinds == ["header", "audio_chunk", "summary"]
        assert not (await heard(tts.StreamSynthesize(silent)))[1].sealed_codes


@SHARED
async def test_an_empty_text_is_refused(shared_tts: Any, silent: Request) -> None:
    silent.input.text = ""
    error = await failure(shared_tts.StreamSynthesize(silent))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "TEXT_EMPTY")


@SHARED
async def test_a_text_with_words_is_spoken(shared_tts: Any, silent: Request) -> None:
    silent.input.text = f"{THUMB} Hello."
    with_it = await heard(shared_tts.StreamSynthesize(silent))
    silent.input.silence_without_words = False
    assert await heard(shared_tts.StreamSynthesize(silent)) == with_it


@SHARED
async def test_other_wrong_fields_of_a_text_without_words_are_named(shared_tts: Any, silent: Request) -> None:
    silent.sampling_params.temperature = 9
    error = await failure(shared_tts.StreamSynthesize(silent))
    assert [each.field for each in error.field_violations] == ["sampling_params.temperature"]


@SHARED
async def test_a_text_that_is_too_long_is_refused_before_words_are_looked_for(shared_tts: Any, silent: Request) -> None:
    """Megabytes of emoji could block the event loop for a second."""
    silent.input.text = 4097 * THUMB
    for silent.input.silence_without_words in (True, False):
        assert (await failure(shared_tts.StreamSynthesize(silent))).reason == "TEXT_TOO_LONG"
