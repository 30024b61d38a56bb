"""What `csm` prints of a server that is newer, wrong or hostile."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.v1 import tts_pb2, tts_pb2_grpc
from csm_client.command.cli import main
from google.protobuf import duration_pb2

NEWER = 99  # of an enum
LONG = duration_pb2.Duration(seconds=2**62)
Response = tts_pb2.StreamSynthesizeTextResponse


class OddService(tts_pb2_grpc.TextToSpeechServiceServicer):
    """A server with values that this client does not know, and with control characters in its texts."""

    def GetServerInfo(self, request: Any, context: Any) -> tts_pb2.GetServerInfoResponse:
        limits = tts_pb2.SynthesisLimits(max_stream_audio_duration=LONG)
        encodings = [tts_pb2.AUDIO_ENCODING_PCM, NEWER]
        return tts_pb2.GetServerInfoResponse(model_version="m\x1b[2J", audio_encodings=encodings, limits=limits)  # type: ignore[arg-type]

    def ListVoices(self, request: Any, context: Any) -> tts_pb2.ListVoicesResponse:
        return tts_pb2.ListVoicesResponse(
            voices=[tts_pb2.Voice(name="ann", description="Grüße 👋🏽.\n\x1b]0;x\x07\x9b\u202e")]
        )

    def StreamSynthesizeText(self, requests: Any, context: Any) -> Iterator[Response]:
        config = next(requests).config
        audio_format = tts_pb2.AudioFormat(sample_rate_hertz=config.audio_config.sample_rate_hertz)
        yield Response(header=tts_pb2.SynthesisHeader(audio_format=audio_format))
        watermark = tts_pb2.WatermarkInfo(coverage=NEWER)  # type: ignore[arg-type]
        yield Response(summary=tts_pb2.SynthesisSummary(finish_reason=NEWER, watermark=watermark))  # type: ignore[arg-type]

    def StreamSynthesize(self, request: Any, context: Any) -> Iterator[Any]:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "No.\x1b[2J")
        yield


@pytest.fixture
def target() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1))
    tts_pb2_grpc.add_TextToSpeechServiceServicer_to_server(OddService(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("words", "code", "lines"),
    [
        (["serve-info"], 0, [r"encodings            PCM, UNKNOWN (99)", r"model                m\x1b[2J"]),
        (["voices"], 0, [r"ann                  speaker 0                 Grüße 👋🏽.\n\x1b]0;x\x07\x9b\u202e"]),
        (["say", "Hello.", "--out", "x.wav", "--rate", "8000"], 0, ["finish reason        unknown (99)"]),
        (["say", "Hello.", "--out", "x.wav"], 1, ["error: The server does not tell the sample rate. x.wav was not"]),
        (["say", "Hello.", "--out", "x.wav", "--as-one-utterance"], 1, [r"error: No.\x1b[2J (INVALID_ARGUMENT, "]),
    ],
)
def test_unknown_values_are_told_and_control_characters_are_not_sent_to_the_terminal(
    target: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    lines: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--target", target]) == code
    printed = "".join(capsys.readouterr())
    assert all(line in printed for line in lines)
    assert "\x1b" not in printed
