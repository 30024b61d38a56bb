"""Settings of the engine stage. Importing them loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from csm_engine.config import EngineConfig
from services.common.bundle_settings import BundleSettings
from services.common.settings import ConnectionAge, HealthPort, MetricsPort, ServingPort


class EngineSettings(BundleSettings, EngineConfig):
    """The settings of the engine stage: the library's and its own."""

    model_config = SettingsConfigDict(env_prefix="CSM_ENGINE_", cli_prog_name="python -m services.engine")
    former_names: ClassVar[Mapping[str, str]] = {
        "spill_bytes": "offload_bytes",
        "max_lead": "max_playout_lead_seconds",
        "cheap_rows": "saturation_batch",
        "host_lag": "pipeline_depth",
    }

    port: ServingPort = 50061
    health_port: HealthPort = 50071
    metrics_port: MetricsPort = 9461
    max_connection_age_seconds: ConnectionAge = 4  # a new replica gets calls within 5 s
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
        description="Experimental, not for serving: on a GPU, all matrix products by our own kernel, with norm, gate"
        " and residual. A product in bfloat16 was wrong on an H100 at 33 rows and more.",
    )
    depth_kernel: bool = Field(
        False,
        description="Experimental, not for serving: on a GPU in bfloat16, for up to 64 rows, one cooperative launch"
        " makes all of a frame's codebooks after the first, with any --quantization; with int8, the rows of its"
        " products have eight bits too. Over eight bits the backbone's launches ask memory ahead. It has not run on a"
        " GPU.",
    )
    lexicon: Path | None = Field(
        None,
        description="File of words and how they are said, a line each (docs/text.md), beside the bundle's own; it is"
        " read again when it changes.",
    )
    max_batch_frames: int = Field(8, ge=1, le=1024, description="Most frames of one message after the first.")
    constant_shape: bool = Field(
        False, description="Run every step at the size of all slots, so that rows are bit-equal whatever the batch."
    )

    @model_validator(mode="after")
    def _int8_multiplies_bfloat16(self) -> Self:
        if self.quantization == "int8" and self.dtype != "bfloat16":
            raise ValueError("--quantization int8 needs --dtype bfloat16.")
        return self

    @model_validator(mode="after")
    def _depth_kernel_multiplies_bfloat16(self) -> Self:
        if self.depth_kernel and self.dtype != "bfloat16":
            raise ValueError(f"--depth-kernel needs --dtype bfloat16; given is {self.dtype}.")
        return self
