"""Bytes as PyAV's frames and back. 16-bit mono unless stated otherwise."""

from __future__ import annotations

from av import AudioFrame


def to_frame(samples: bytes, sample_rate_hz: int) -> AudioFrame:
    """samples: mono 16-bit, at least one"""
    frame = AudioFrame(format="s16", layout="mono", samples=len(samples) // 2)
    frame.sample_rate = sample_rate_hz
    frame.planes[0].update(samples)
    return frame


def to_bytes(frame: AudioFrame) -> bytes:
    """The samples of a packed frame; its buffer may be longer."""
    size = frame.samples * frame.format.bytes * frame.layout.nb_channels
    return bytes(frame.planes[0])[:size]
