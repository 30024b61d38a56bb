"""The message of a watermark as the networks take it: five bytes as twenty two-bit symbols and an end mark. No torch.

Each STFT frame carries one symbol. The message repeats for as long as the audio lasts. In a frame, symbol s is written
s + 1, and 0 is the end mark, as in SilentCipher.
"""

from __future__ import annotations

PAYLOAD_BYTES = 5
BITS_PER_SYMBOL = 2
NUM_SYMBOLS = PAYLOAD_BYTES * 8 // BITS_PER_SYMBOL
PERIOD = NUM_SYMBOLS + 1  # frames
END_MARK = 0


def frame_symbols(payload: bytes) -> tuple[int, ...]:
    """The PERIOD symbols on the air: 1..4 for each two bits, most significant first, then the end mark."""
    if len(payload) != PAYLOAD_BYTES:
        raise ValueError(f"A payload of {len(payload)} bytes; {PAYLOAD_BYTES} are needed.")
    shifts = range(8 - BITS_PER_SYMBOL, -1, -BITS_PER_SYMBOL)
    return (*(1 + (byte >> shift & 0b11) for byte in payload for shift in shifts), END_MARK)
