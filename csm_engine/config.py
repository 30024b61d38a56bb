"""Settings of the engine: frozen, validated. It knows no model. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How the engine runs, whatever the model."""

    num_slots: int = 8  # sequences that run at once
    num_spare_slots: int = 8  # more slots that only remember what was said, for prompts that begin alike
    max_waiting: int = 32  # sequences that wait for a slot before requests are refused
    prefill_chunk: int = 256  # prompt positions between two frame steps
    real_time_share: float = 0.0  # of a frame's 80 ms that a step may take before streams are kept out; 0 is no limit
    max_playout_lead_s: float = 0.0  # seconds of sound that a live sequence may be ahead of its listener; 0 is no limit
    saturation_batch: int = 64  # a step of so many rows costs little more than a step of one
    offload_bytes: int = 0  # host memory for what slots remembered when they were given away
    pipeline_depth: int = 0  # steps launched before the last one is read; 1 keeps a GPU busy, on a CPU it only delays
    reserved_frames: int = 250  # room kept for new frames when context turns are dropped: 20 s

    @property
    def total_slots(self) -> int:
        return self.num_slots + self.num_spare_slots

    def __post_init__(self) -> None:
        for name, low in (
            ("num_slots", 1),
            ("num_spare_slots", 0),
            ("max_waiting", 0),
            ("prefill_chunk", 1),
            ("max_playout_lead_s", 0),
            ("saturation_batch", 1),
            ("offload_bytes", 0),
            ("pipeline_depth", 0),
            ("reserved_frames", 1),
        ):
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {low}")
