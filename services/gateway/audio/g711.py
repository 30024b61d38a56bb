"""G.711: 16-bit samples as 8-bit mu-law or A-law. One byte per sample, no state, no header."""

from __future__ import annotations

from av import AudioCodecContext, CodecContext

from services.gateway.audio.frames import to_frame

MULAW, ALAW = "pcm_mulaw", "pcm_alaw"


class G711:
    """One of the two laws, as FFmpeg names them."""

    def __init__(self, law: str, sample_rate_hz: int) -> None:
        """law: MULAW or ALAW"""
        self._sample_rate_hz = sample_rate_hz
        codec = CodecContext.create(law, "w")
        assert isinstance(codec, AudioCodecContext)
        codec.sample_rate, codec.layout, codec.format = sample_rate_hz, "mono", "s16"
        self._codec = codec

    def pack(self, samples: bytes) -> bytes:
        """samples: mono 16-bit"""
        if not samples:
            return b""
        return b"".join(bytes(packet) for packet in self._codec.encode(to_frame(samples, self._sample_rate_hz)))
