"""Settings of the engine stage. Importing them loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from services.common.bundle_settings import BundleSettings
from services.common.settings import HealthPort, MetricsPort, ServingPort


class EngineSettings(BundleSettings):
    """What the engine stage can be told."""

    model_config = SettingsConfigDict(env_prefix="CSM_ENGINE_")

    port: ServingPort = 50061
    health_port: HealthPort = 50071
    metrics_port: MetricsPort = 9461
    random_weights: bool = Field(
        False, description="Run the bundle's shapes with seeded random weights: noise, for load tests."
    )
    device: Literal["cpu", "cuda"] = Field(
        "cpu", description="Where the model runs; CUDA_VISIBLE_DEVICES picks one of several GPUs."
    )
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Type of the weights; bfloat16 on a GPU.")
    quantization: Literal["none", "float8", "int8"] = Field(
        "none",
        description="Eight bits for the layers' matrices, a scale for each output: half of the bytes that a step reads,"
        " and other codes. float8 is for GPUs and slow on a CPU; int8 is for a CPU that serves a few streams in"
        " bfloat16.",
    )
    kv_cache_dtype: Literal["auto", "float8"] = Field(
        "auto",
        description="Type of the conversations' keys and values; float8 halves them on a GPU, and gives other codes.",
    )
    fused_products: bool = Field(
        False,
        description="On a GPU, all matrix products by our own kernel, with norm, gate and residual; otherwise those"
        " measured to be faster so.",
    )
    lexicon: Path | None = Field(
        None,
        description="File of words and how they are said, a line each (docs/text.md), beside the bundle's own; it is"
        " read again when it changes.",
    )
    slots: int = Field(8, ge=1, le=4096, description="Sequences that run at once.")
    spare_slots: int = Field(
        8, ge=0, le=65536, description="More slots that remember what was said, for prompts that begin alike."
    )
    spill_bytes: int = Field(
        0,
        ge=0,
        description="Host memory for what slots remembered when their room was needed, pinned with CUDA; a prompt"
        " that begins like it gets it back. 0 keeps nothing.",
    )
    max_waiting: int = Field(32, ge=0, le=100_000, description="Sequences that wait for a slot before one is refused.")
    real_time_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of a frame's 80 ms that a frame step may take; a stream that would make steps longer"
        " waits or is refused, so that running ones keep up. 0 is no limit.",
    )
    max_lead: float = Field(
        0.0,
        ge=0,
        le=600,
        description="Seconds of speech that a live stream may be ahead of its listener; past half of it streams rest"
        " until somebody needs a frame. 0 is no limit. Calls that are not live are never held back.",
    )
    cheap_rows: int = Field(
        64,
        ge=1,
        le=4096,
        description="A step of so many sequences costs little more than a step of one: while somebody's next frame"
        " is pressing, no more than these, or those who are pressed, take part.",
    )
    prefill_chunk: int = Field(256, ge=1, le=2048, description="Prompt positions between two frame steps.")
    reserved_frames: int = Field(
        250, ge=1, le=2048, description="Frames that context turns must leave room for; older turns are dropped."
    )
    max_batch_frames: int = Field(8, ge=1, le=1024, description="Most frames of one message after the first.")
    constant_shape: bool = Field(
        False, description="Run every step at the size of all slots, so that rows are bit-equal whatever the batch."
    )
    host_lag: int | None = Field(
        None,
        ge=0,
        le=1,
        description="Frame steps that are launched before the last one is read: 1 keeps a GPU busy while the host"
        " hands frames on, on a CPU it only delays them. 1 on CUDA and 0 elsewhere when unset.",
    )

    @model_validator(mode="after")
    def _int8_multiplies_bfloat16(self) -> Self:
        if self.quantization == "int8" and self.dtype != "bfloat16":
            raise ValueError("--quantization int8 needs --dtype bfloat16.")
        return self
