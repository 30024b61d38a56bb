"""Settings of the engine, declared once. They do not depend on the model. No torch.

The stage's settings inherit them. The flags and the documentation are generated from the descriptions.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class EngineConfig(BaseModel):
    """The engine's settings. Raises pydantic's ValidationError, a ValueError, that names the field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slots: int = Field(8, ge=1, le=4096, description="Sequences that run at once.")
    spare_slots: int = Field(
        8,
        ge=0,
        le=65536,
        description="More slots that only keep keys and values of earlier prompts, for prompts with the same prefix.",
    )
    offload_bytes: int = Field(
        0,
        ge=0,
        description="Host memory, in bytes, for keys and values whose slot is reused; a prompt with the same prefix"
        " restores them. Pinned with CUDA, in pages of 128 positions or more. 0 keeps nothing.",
    )
    max_waiting: int = Field(
        32,
        ge=0,
        le=100_000,
        description="Sequences that wait for a slot before a request is refused. Those that continue audio which"
        " somebody hears have a queue of their own, of so many and one for each slot.",
    )
    real_time_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of a frame's 80 ms that a frame step may take; a stream that would make steps longer"
        " waits or is refused, so that running ones keep up. 0 is no limit.",
    )
    max_playout_lead_seconds: float = Field(
        0.0,
        ge=0,
        le=600,
        description="Seconds of speech that a live stream may be ahead of playback; past half of it streams pause until"
        " one of them needs a frame. 0 is no limit. Calls that are not live are never paused.",
    )
    saturation_batch: int = Field(
        64,
        ge=1,
        le=4096,
        description="Sequences in a step that cost little more than one. While a stream's next frame is urgent, a step"
        " takes no more than these, or all urgent ones if they are more.",
    )
    prefill_chunk: int = Field(
        256,
        ge=1,
        le=2048,
        description="Most prompt positions of a prefill pass, of all prompts in it. While a stream's next frame is"
        " urgent, a frame step follows each pass.",
    )
    reserved_frames: int = Field(
        250, ge=1, le=2048, description="Frames that context turns must leave room for; older turns are dropped."
    )
    pipeline_depth: int | None = Field(
        None,
        ge=0,
        le=1,
        description="Frame steps that are launched before the last one is read: 1 keeps a GPU busy while the host"
        " hands frames on, on a CPU it only delays them. 1 on CUDA and 0 elsewhere when unset.",
    )

    @property
    def total_slots(self) -> int:
        """All slots of the cache: `slots` and `spare_slots`."""
        return self.slots + self.spare_slots

    def pipeline_depth_on(self, device_type: str) -> int:
        """The setting, or its default for the device. device_type: torch's name for it, such as "cuda"."""
        if self.pipeline_depth is not None:
            return self.pipeline_depth
        return int(device_type == "cuda")
