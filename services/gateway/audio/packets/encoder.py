"""A streaming encoder of packets. Each packet is returned as soon as it is made, and can be played as it comes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from fractions import Fraction
from typing import Any

from av import AudioCodecContext, CodecContext, Packet

from services.gateway.audio.encoded import EncodedAudio
from services.gateway.audio.frames import to_frame
from services.gateway.audio.packets.formats import PacketFormat
from services.gateway.audio.resampling.resampler import Resampler
from services.gateway.audio.single_thread import seeing_one_cpu


class PacketEncoder:
    """One utterance. The same samples give the same bytes.

    The encoder's delay is not counted: a decoder gives that many samples more at the start, and up to a frame of
    padding at the end. Its first n samples after the delay are there once n are counted.
    """

    def __init__(self, packets: PacketFormat, resampler: Resampler, sample_rate_hz: int) -> None:
        self._packets, self._resampler, self._sample_rate_hz = packets, resampler, sample_rate_hz
        codec = CodecContext.create(packets.encoder, "w")
        assert isinstance(codec, AudioCodecContext)
        codec.sample_rate, codec.layout, codec.format = sample_rate_hz, "mono", packets.sample_format
        codec.options = dict(packets.options(sample_rate_hz))
        if packets.bit_rates:
            codec.bit_rate = packets.bit_rates[sample_rate_hz]
        codec.time_base = Fraction(1, sample_rate_hz)
        codec.thread_count = 1
        self._codec = codec
        self._taken = self._given = 0  # samples

    def skip(self, sample_count: int) -> None:
        """Begins after so many samples, which are whole packets, with the number of the packet that follows.

        Only for formats whose packets depend on nothing before them but their number. It costs 1 ms of CPU a second.
        """
        second = bytes(2 * self._sample_rate_hz)
        for at in range(0, 2 * sample_count, len(second)):
            self._encode(second[: 2 * sample_count - at])

    def push(self, samples: bytes) -> EncodedAudio:
        return self._encode(self._resampler.push(samples))

    def finish(self) -> EncodedAudio:
        last = self._encode(self._resampler.flush())
        if not self._taken:
            return last
        content, _ = self._joined(self._codec.encode(None))
        return EncodedAudio(last.content + content, last.sample_count + self._taken - self._given)

    def _encode(self, samples: bytes) -> EncodedAudio:
        if not samples:
            return EncodedAudio(b"", 0)
        frame = to_frame(samples, self._sample_rate_hz)
        frame.pts, frame.time_base = self._taken, Fraction(1, self._sample_rate_hz)
        with nullcontext() if self._taken else seeing_one_cpu():
            packets = self._codec.encode(frame)
        self._taken += frame.samples
        content, end = self._joined(packets)
        new = max(0, end - self._given)
        self._given += new
        return EncodedAudio(content, new)

    def _joined(self, packets: Iterable[Packet[Any]]) -> tuple[bytes, int]:
        """The bytes of the packets, and the position of the first sample behind them, at least 0."""
        content, end = b"", 0
        for packet in packets:
            content += self._packets.before_packet(self._sample_rate_hz, packet.size) if packet.size else b""
            content += bytes(packet)
            end = max(end, (packet.pts or 0) + (packet.duration or 0))
        return content, end
