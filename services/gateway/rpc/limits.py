"""How much audio one call may make. It knows no request.

The unary reply must fit the 4 MiB that every gRPC client receives by default.
"""

from __future__ import annotations

# Of the 4,194,304 bytes; the rest is for codes (800 bytes a second) and the summary.
MAX_UNARY_AUDIO_BYTES = 3_840_000


def unary_seconds(bytes_per_second: int, max_stream_seconds: float) -> float:
    """Longest audio of Synthesize: 80 s of 24 kHz PCM, 40 s at 48 kHz; mu-law, A-law and Opus as much as a stream."""
    return min(MAX_UNARY_AUDIO_BYTES / bytes_per_second, max_stream_seconds)


def whole_frames(seconds: float, frame_s: float) -> int:
    """Frames that fit into `seconds`. Bears the rounding of decimal seconds."""
    return int(seconds / frame_s + 1e-6)
