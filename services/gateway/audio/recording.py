"""A recording on its way to the codec. Plain values; it knows no file format and no request."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from csm.codec.v1 import codec_pb2

PIECE_BYTES = 128 * 1024  # of one message: larger ones cost more copying, smaller ones more messages


@dataclass(frozen=True, slots=True)
class Recording:
    """Mono samples."""

    samples: bytes
    sample_format: codec_pb2.SampleFormat
    sample_rate_hz: int

    @property
    def sample_size(self) -> int:
        """Bytes per sample."""
        return 4 if self.sample_format == codec_pb2.SAMPLE_FORMAT_F32LE else 2

    @property
    def duration_s(self) -> float:
        return len(self.samples) / (self.sample_size * self.sample_rate_hz)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The samples in messages. The generator keeps the recording in memory until the last one."""
        for start in range(0, len(self.samples), PIECE_BYTES):
            yield self.samples[start : start + PIECE_BYTES]
