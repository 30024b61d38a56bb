"""Every method of every port, from the descriptors of the protos. It sends nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from csm.codec.v1 import codec_pb2
from csm.engine.v1 import engine_pb2
from csm.rvq.v1 import rvq_pb2
from csm.v1 import tts_pb2, voices_pb2, watermark_pb2
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

# The files whose services a port answers. Every port has health.
_PORTS: dict[str, Sequence[FileDescriptor]] = {
    "gateway api": (
        tts_pb2.DESCRIPTOR,
        voices_pb2.DESCRIPTOR,
        watermark_pb2.DESCRIPTOR,
        health_pb2.DESCRIPTOR,
        reflection_pb2.DESCRIPTOR,
    ),
    "gateway health": (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR),
    "engine api": (engine_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR),
    "engine health": (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR),
    "codec api": (codec_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR),
    "codec health": (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR),
}


@dataclass(frozen=True)
class Method:
    """One method at one port. request: None for a method that does not exist."""

    port: str
    path: str
    request: Descriptor | None
    streams_requests: bool = False

    def __str__(self) -> str:
        return f"{self.port} {self.path}"


def methods() -> list[Method]:
    """All methods, and for each port one that it does not have."""
    found = [
        Method(port, f"/{service.full_name}/{method.name}", method.input_type, method.client_streaming)
        for port, files in _PORTS.items()
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
    ]
    return found + [Method(port, "/csm.v1.TextToSpeechService/NoSuchMethod", None) for port in _PORTS]


def valid_requests(codec: rvq_pb2.CodecIdentity) -> dict[str, list[Message]]:
    """Valid requests by method, from which malformed ones are made."""
    pcm = tts_pb2.AudioConfig(audio_encoding=tts_pb2.AUDIO_ENCODING_PCM)
    speech: dict[str, Any] = {
        "input": tts_pb2.SynthesisInput(text="Hello there."),
        "audio_config": pcm,
        "return_codes": True,
    }
    stream = tts_pb2.StreamSynthesizeRequest(**speech)
    stream.max_audio_duration.seconds = 1
    unary = tts_pb2.SynthesizeRequest(**speech)
    unary.max_audio_duration.seconds = 1
    recording = tts_pb2.AudioRecording(
        audio_content=bytes(2 * 4800),
        audio_format=tts_pb2.AudioFormat(
            audio_encoding=tts_pb2.AUDIO_ENCODING_PCM, sample_rate_hertz=24_000, channel_count=1
        ),
    )
    turn = tts_pb2.Turn(text="Yes?", audio=tts_pb2.TurnAudio(recording=recording))
    unary.context.turns.append(turn)
    config = tts_pb2.StreamSynthesizeRequest()
    config.CopyFrom(stream)
    config.input.ClearField("text")
    frames = rvq_pb2.CodeFrames(
        frame_count=2, codebook_count=codec.codebook_count, codes=bytes(4 * codec.codebook_count)
    )
    pcm_format: dict[str, Any] = {"sample_format": codec_pb2.SAMPLE_FORMAT_S16LE, "sample_rate_hertz": 24_000}
    pcm_16 = pcm_format | {"samples": bytes(9600)}
    text, detect = tts_pb2.StreamSynthesizeTextRequest, watermark_pb2.StreamDetectWatermarkRequest
    decode, search = codec_pb2.StreamDecodeRequest, codec_pb2.StreamDetectWatermarkRequest
    encode = codec_pb2.StreamEncodeRequest
    generate = engine_pb2.GenerateRequest(
        segments=[engine_pb2.Segment(text="Before.", codes=frames), engine_pb2.Segment(text="Hello there.")],
        sampling_params=engine_pb2.SamplingParams(seed=1),
        max_frame_count=12,
    )
    return {
        "Synthesize": [unary],
        "StreamSynthesize": [stream],
        "StreamSynthesizeText": [text(config=config), text(text=tts_pb2.TextPiece(text="One. Two.", flush=True))],
        "ListVoices": [tts_pb2.ListVoicesRequest(page_size=1, page_token="0", language_code="en")],
        "CreateVoice": [
            voices_pb2.CreateVoiceRequest(
                name="carol",
                prompt=voices_pb2.VoicePrompt(text="Yes?", audio=turn.audio),
                consent=voices_pb2.Consent(id="1", text="Yes."),
            ),
            voices_pb2.CreateVoiceRequest(name="dave", seed=7),
        ],
        "GetVoice": [voices_pb2.GetVoiceRequest(name="dave")],
        "DeleteVoice": [voices_pb2.DeleteVoiceRequest(name="dave")],
        "DetectWatermark": [
            watermark_pb2.DetectWatermarkRequest(recording=recording, key_ids=["a"]),
            codec_pb2.DetectWatermarkRequest(**pcm_16),
        ],
        "StreamDetectWatermark": [
            detect(config=watermark_pb2.StreamDetectWatermarkConfig(audio_format=recording.audio_format)),
            detect(audio_content=bytes(9600)),
            search(config=codec_pb2.StreamDetectWatermarkConfig(**pcm_format)),
            search(samples=bytes(9600)),
        ],
        "Generate": [generate],
        "StreamDecode": [
            decode(config=codec_pb2.StreamDecodeConfig(codec=codec, sample_format=codec_pb2.SAMPLE_FORMAT_S16LE)),
            decode(frames=frames),
        ],
        "Encode": [codec_pb2.EncodeRequest(**pcm_16)],
        "StreamEncode": [
            encode(config=codec_pb2.StreamEncodeConfig(**pcm_format, measure=True)),
            encode(samples=bytes(9600)),
        ],
        "Check": [health_pb2.HealthCheckRequest(service="readiness")],
        "Watch": [health_pb2.HealthCheckRequest(service="readiness")],
        "ServerReflectionInfo": [reflection_pb2.ServerReflectionRequest(list_services="*")],
    }
