"""Settings of the engine stage. Importing them loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from csm_engine.config import EngineConfig
from services.common.bundle_settings import BundleSettings
from services.common.setting_types import FilePath
from services.common.settings import ConnectionAge, HealthPort, MetricsPort, ServingPort, StageReceiveLimit


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
    max_receive_message_bytes: StageReceiveLimit = 16 * 2**20
    max_connection_age_seconds: ConnectionAge = 4  # a new replica gets calls within 5 s
    random_weights: bool = Field(
        False,
        description="Run with seeded random weights of the bundle's shapes. The speech is noise; use it for load"
        " tests.",
    )
    device: Literal["cpu", "cuda"] = Field(
        "cpu", description="Where the model runs. CUDA_VISIBLE_DEVICES chooses one of several GPUs."
    )
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Type of the weights; use bfloat16 on a GPU.")
    quantization: Literal["none", "float8", "int8"] = Field(
        "none",
        description="Type of the matrices of the layers, with one scale for each output. Eight bits halve the bytes"
        " that a step reads, and change the codes. float8 is for GPUs; it is slow on a CPU. int8 is for a CPU that"
        " serves a few streams in bfloat16.",
    )
    kv_cache_dtype: Literal["auto", "float8"] = Field(
        "auto",
        description="Type of the KV cache. float8 halves its memory on a GPU, and changes the codes.",
    )
    fused_products: bool = Field(
        False,
        description="Experimental, not for serving. On a GPU, our own kernel computes all matrix products, together"
        " with norm, gate and residual. A product in bfloat16 was wrong on an H100 at 33 rows and more.",
    )
    depth_kernel: bool = Field(
        False,
        description="Experimental, not for serving; it has not run on a GPU. On a GPU in bfloat16, for up to 64 rows,"
        " one cooperative launch makes all codebooks of a frame after the first. It works with every --quantization;"
        " with int8 it rounds the rows of its products to eight bits too. With eight-bit weights the backbone's"
        " launches request memory ahead.",
    )
    lexicon: FilePath | None = Field(
        None,
        description="File of words and their pronunciation, one per line (docs/text.md), in addition to the bundle's"
        " own. It is read again when it changes.",
    )
    reading_stall_seconds: float = Field(
        60.0,
        ge=0.5,
        le=3600,
        description="Seconds that the thread that reads texts may work on one request. After that the request fails,"
        " others are sent to other engines, and the stage reports that it is neither ready nor live. The longest texts"
        " take 1.3 s of a core.",
    )
    max_batch_frames: int = Field(8, ge=1, le=1024, description="Most frames in one message after the first.")
    constant_shape: bool = Field(
        False,
        description="Run every step at the size of all slots. A request's codes are then bit-identical in any batch,"
        " but each step costs as much as the largest.",
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
