"""A streaming encoder of Opus in Ogg: one page per 20 ms packet. Every page but the newest is returned at once.

The muxer holds the newest page back, because the last one must carry the end-of-stream flag. Sample positions are
read from the pages. Formats: RFC 6716 (Opus), RFC 7845 (Ogg Opus), RFC 3533 (Ogg).
"""

from __future__ import annotations

import struct
from contextlib import nullcontext
from fractions import Fraction

import av
from av import AudioStream

from services.gateway.audio.encoded import EncodedAudio
from services.gateway.audio.frames import to_frame
from services.gateway.audio.resampling.resampler import Resampler
from services.gateway.audio.single_thread import seeing_one_cpu

# Of each sample rate that Opus knows (RFC 6716, section 2), bits per second. Speech is transparent
# at fewer; the rest helps the watermark.
OPUS_BIT_RATES = {8_000: 24_000, 12_000: 32_000, 16_000: 32_000, 24_000: 48_000, 48_000: 64_000}
OPUS_PACKET_MS = 20
_PAGE_OVERHEAD = 28  # bytes; every packet has a page of its own
_MARGIN = 1.1  # the bit rate is an average
_GRANULES_HZ = 48_000  # positions in Ogg Opus count at this rate, whatever the audio's
_SERIALS = 2**31


def opus_bytes_per_second(sample_rate_hz: int) -> int:
    """A bound that holds for any second or longer."""
    return round(OPUS_BIT_RATES[sample_rate_hz] / 8 * _MARGIN + _PAGE_OVERHEAD * 1000 / OPUS_PACKET_MS)


class OggOpusEncoder:
    """One utterance. The same samples and serial give the same bytes."""

    def __init__(self, resampler: Resampler, sample_rate_hz: int, serial: int) -> None:
        """serial: number of the Ogg stream; it differs between streams that may be joined"""
        self._resampler = resampler
        self._sample_rate_hz = sample_rate_hz
        self._pages = _Pages()
        options = {
            "page_duration": str(OPUS_PACKET_MS * 1000),
            "flush_packets": "1",
            "fflags": "+bitexact",
            "serial_offset": str(serial % _SERIALS),
        }
        self._container = av.open(self._pages, "w", format="ogg", options=options)
        voice = {"application": "audio", "frame_duration": str(OPUS_PACKET_MS), "vbr": "constrained"}
        stream = self._container.add_stream("libopus", rate=sample_rate_hz, options=voice)
        stream.bit_rate = OPUS_BIT_RATES[sample_rate_hz]
        stream.layout, stream.format = "mono", "s16"
        self._stream: AudioStream = stream
        self._taken = 0  # samples

    def push(self, samples: bytes) -> EncodedAudio:
        self._encode(self._resampler.push(samples))
        return self._take()

    def finish(self) -> EncodedAudio:
        self._encode(self._resampler.flush())
        if self._taken:
            self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._take()

    def _encode(self, samples: bytes) -> None:
        if not samples:
            return
        frame = to_frame(samples, self._sample_rate_hz)
        # Without a time of its own the first packet would not count the pre-skip.
        frame.pts, frame.time_base = self._taken, Fraction(1, self._sample_rate_hz)
        with nullcontext() if self._taken else seeing_one_cpu():
            self._container.mux(self._stream.encode(frame))
        self._taken += frame.samples

    def _take(self) -> EncodedAudio:
        content, granules = self._pages.take()
        return EncodedAudio(content, granules * self._sample_rate_hz // _GRANULES_HZ)


class _Pages:
    """What the muxer writes. It always writes whole pages."""

    def __init__(self) -> None:
        self._content = bytearray()
        self._pre_skip: int | None = None  # granules that a decoder throws away at the start
        self._position = 0  # granules that were taken, without the skipped ones

    def write(self, content: bytes) -> int:
        self._content += content
        return len(content)

    def take(self) -> tuple[bytes, int]:
        """All that was written since the last call, and how many granules of sound are in it."""
        content = bytes(self._content)
        self._content.clear()
        before = self._position
        at = 0
        while at < len(content):
            (granule,) = struct.unpack_from("<q", content, at + 6)
            segments = content[at + 27 : at + 27 + content[at + 26]]
            body = at + 27 + len(segments)
            if self._pre_skip is None:
                (self._pre_skip,) = struct.unpack_from("<H", content, body + 10)
            self._position = max(self._position, granule - self._pre_skip)
            at = body + sum(segments)
        return content, self._position - before
