"""Settings of the codec, declared once: the stage's settings inherit them, and its flags and documentation come from
these descriptions. They know no decoder and no network. No torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class CodecConfig(BaseModel):
    """How the codec runs, for any weights. Raises ValidationError (a ValueError) that names the field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Type of the decoder's weights. The quantizer is always float32."
    )
    slots: int = Field(
        16,
        ge=1,
        le=4096,
        description="Most streams that are decoded at once; rounded up to whole lanes in every thread (--threads).",
    )
    lane_width: int = Field(
        0,
        ge=0,
        le=4096,
        description="Streams that are decoded as one batch (a lane). 0 means up to 8 on a CPU, as evenly as lanes and"
        " threads share the slots, and all slots on a GPU. On a CPU samples do not depend on it.",
    )
    constant_shape: bool = Field(
        False,
        description="On a GPU, run every step at the size of the whole batch. A stream's samples are then"
        " bit-identical whatever else runs, but each step costs as much as the largest.",
    )
    watermark_dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Type of the convolutions in the networks that embed the watermark. The detector is always"
        " float32. bfloat16 is faster on machines that multiply it; the watermark then differs slightly from that of"
        " the original package.",
    )
    watermark_first_look_ahead: int = Field(
        0,
        ge=0,
        le=1000,
        description="STFT frames of later audio that the watermark takes into account at the start of a stream. Each"
        " one delays the first audio by one hop. Values beyond what the networks look ahead only add delay.",
    )
    watermark_look_ahead_growth: int = Field(
        8, ge=1, le=100_000, description="STFT frames after which the look-ahead grows by one frame."
    )
    watermark_most_look_ahead: int = Field(
        1000,
        ge=0,
        le=1000,
        description="Largest look-ahead, in STFT frames; the networks' own look-ahead is the upper limit. Smaller"
        " values cost computing time.",
    )

    def num_codecs(self, threads: int) -> int:
        """Codecs that share the slots on a CPU, each in a thread of its own: no more than slots, or than set lanes."""
        return min(threads, -(-self.slots // (self.lane_width or 1)))

    def lanes(self, num_codecs: int, *, on_cpu: bool) -> tuple[int, int]:
        """Number and width of the lanes of each of the codecs."""
        slots = -(-self.slots // num_codecs)
        if self.lane_width:
            width = min(self.slots, self.lane_width)
            return -(-slots // width), width
        num_lanes = -(-slots // (CPU_LANE_WIDTH if on_cpu else slots))
        return num_lanes, -(-slots // num_lanes)


# At most, unless set: the two steps of a frame of each stream fill the sixteen rows of a processor's matrix tile.
CPU_LANE_WIDTH = 8
