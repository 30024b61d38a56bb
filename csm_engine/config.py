"""Settings of the engine, declared once. They do not depend on the model. No torch.

The stage's settings inherit them. The flags and the documentation are generated from the descriptions.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

MIN_PLAYOUT_LEAD_S = 0.16  # two frames: a stream is paused only if a message, of a frame or more, fits into half of it


class EngineConfig(BaseModel):
    """The engine's settings. Raises pydantic's ValidationError, a ValueError, that names the field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slots: int = Field(8, ge=1, le=4096, description="Most sequences that run at once.")
    spare_slots: int = Field(
        8,
        ge=0,
        le=65536,
        description="Additional slots of the KV cache. No sequence runs in them: they keep the keys and values of"
        " earlier prompts, for later prompts with the same prefix.",
    )
    offload_bytes: int = Field(
        0,
        ge=0,
        description="Host memory, in bytes, for keys and values that lose their slot; a later prompt with the same"
        " prefix restores them. The memory is pinned on CUDA, and is used in pages of 128 positions or more. 0 turns"
        " it off.",
    )
    max_waiting: int = Field(
        32,
        ge=0,
        le=100_000,
        description="Most sequences that wait for a slot; a further request is refused. Sequences that continue audio"
        " which a listener hears wait in a queue of their own, of this size plus the number of slots.",
    )
    real_time_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Largest share of a frame's 80 ms that a frame step may take, 0 to 1. A stream that would make"
        " steps longer waits or is refused, so that running streams keep up with playback. 0 is no limit.",
    )
    max_playout_lead_seconds: float = Field(
        0.0,
        ge=0,
        le=600,
        description="Seconds of speech that a live stream may be ahead of its playback. Streams past half of it pause"
        " until one of them needs a frame; one whose messages are longer than half of it is never paused, so it must be"
        " 0 or at least 0.16. 0 is no limit. Calls that are not live are never paused.",
    )
    saturation_batch: int = Field(
        64,
        ge=1,
        le=4096,
        description="Sequences that a step can carry for little more than the cost of one. While a stream's next frame"
        " is urgent, a step takes at most this many sequences, or all urgent ones if they are more.",
    )
    prefill_chunk: int = Field(
        256,
        ge=1,
        le=2048,
        description="Most prompt positions in a prefill pass, over all of its prompts. While a stream's next frame is"
        " urgent, a frame step follows each pass. Smaller passes delay running streams less, and new ones more.",
    )
    reserved_frames: int = Field(
        250,
        ge=1,
        le=2048,
        description="Frames that the context must leave room for in the context window; the oldest turns are dropped"
        " to make it.",
    )
    pipeline_depth: int | None = Field(
        None,
        ge=0,
        le=1,
        description="Frame steps that are launched before the last one is read. 1 keeps a GPU busy while the host"
        " delivers frames; on a CPU it only delays them. When unset, 1 on CUDA and 0 elsewhere.",
    )

    @field_validator("max_playout_lead_seconds")
    @classmethod
    def _half_of_the_lead_has_a_frame(cls, seconds: float) -> float:
        if 0 < seconds < MIN_PLAYOUT_LEAD_S:
            raise ValueError(f"0 or at least {MIN_PLAYOUT_LEAD_S}, which are two frames")
        return seconds

    @property
    def total_slots(self) -> int:
        """All slots of the cache: `slots` and `spare_slots`."""
        return self.slots + self.spare_slots

    def pipeline_depth_on(self, device_type: str) -> int:
        """The setting, or its default for the device. device_type: torch's name for it, such as "cuda"."""
        if self.pipeline_depth is not None:
            return self.pipeline_depth
        return int(device_type == "cuda")
