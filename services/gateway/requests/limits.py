"""Limits of the audio that one call may make. It knows no request.

The unary reply must fit the 4 MiB that every gRPC client receives by default.
"""

from __future__ import annotations

# Of 4,194,304 bytes. The rest is for codes (800 bytes per second of audio) and the summary.
MAX_UNARY_AUDIO_BYTES = 3_840_000


def unary_seconds(bytes_per_second: int, max_stream_seconds: float) -> float:
    """Longest audio of Synthesize, in seconds: 80 for PCM at 24 kHz, 40 at 48 kHz.

    By default mu-law and A-law at up to 12 kHz, Opus, and MP3 at up to 24 kHz may be as long as a stream.
    """
    return min(MAX_UNARY_AUDIO_BYTES / bytes_per_second, max_stream_seconds)


def whole_frames(seconds: float, frame_s: float) -> int:
    """Whole frames that fit into `seconds`. It tolerates the rounding of decimal seconds."""
    return int(seconds / frame_s + 1e-6)
