"""The result of a synthesis. It knows no channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from csm.v1 import tts_pb2

from csm_client.errors import IncompleteAudioError
from csm_client.requests import Codes

SAMPLE_SIZES: Mapping[int, int] = {  # in bytes, of the encodings that hold samples and nothing else
    tts_pb2.AUDIO_ENCODING_PCM: 2,
    tts_pb2.AUDIO_ENCODING_MULAW: 1,
    tts_pb2.AUDIO_ENCODING_ALAW: 1,
}


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
    """Raises IncompleteAudioError for an answer without audio or with other audio than it counts."""
    count, num_bytes = response.summary.stats.sample_count, len(response.audio_content)
    size = SAMPLE_SIZES.get(response.audio_format.audio_encoding)
    if response.audio_format.sample_rate_hertz <= 0 or (size and num_bytes != size * count):
        raise IncompleteAudioError(f"The server counts {count} samples, but {num_bytes} bytes came.", 0)
    header = tts_pb2.SynthesisHeader(
        request_id=response.request_id,
        audio_format=response.audio_format,
        voice=response.voice,
        model_version=response.model_version,
        seed=response.seed,
    )
    return Speech(response.audio_content, header, response.summary)
