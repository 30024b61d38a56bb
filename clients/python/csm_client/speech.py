"""The result of a synthesis. It knows no channel."""

from __future__ import annotations

from dataclasses import dataclass

from csm.v1 import tts_pb2

from csm_client.requests import Codes


@dataclass(frozen=True, slots=True)
class Speech:
    """A whole utterance."""

    samples: bytes  # mono, 16-bit little-endian; bytes of another encoding when one was asked for
    header: tts_pb2.SynthesisHeader
    summary: tts_pb2.SynthesisSummary

    @property
    def sample_rate_hz(self) -> int:
        return self.header.audio_format.sample_rate_hertz

    @property
    def duration_s(self) -> float:
        return self.summary.stats.sample_count / self.sample_rate_hz

    @property
    def codes(self) -> Codes | None:
        """For a turn of a later context; None unless the request asked for them."""
        return codes_of(self.summary)


def codes_of(summary: tts_pb2.SynthesisSummary) -> Codes | None:
    """The codes, sealed or open as the server returns them; None without codes."""
    if summary.sealed_codes:
        return summary.sealed_codes
    return summary.codes if summary.HasField("codes") else None


def from_unary(response: tts_pb2.SynthesizeResponse) -> Speech:
    header = tts_pb2.SynthesisHeader(
        request_id=response.request_id,
        audio_format=response.audio_format,
        voice=response.voice,
        model_version=response.model_version,
        seed=response.seed,
    )
    return Speech(response.audio_content, header, response.summary)
