"""Settings of the codec stage. Importing them loads no torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from csm_bundle.manifest import MAX_SDR_DB, MIN_SDR_DB
from csm_codec.config import CodecConfig
from services.common.bundle_settings import BundleSettings
from services.common.settings import ConnectionAge, HealthPort, MetricsPort, ReceiveLimit, ServingPort


class CodecSettings(BundleSettings, CodecConfig):
    """The settings of the codec stage: the library's and its own."""

    model_config = SettingsConfigDict(env_prefix="CSM_CODEC_", cli_prog_name="python -m services.codec")

    port: ServingPort = 50062
    health_port: HealthPort = 50072
    metrics_port: MetricsPort = 9462
    max_connection_age_seconds: ConnectionAge = 4  # a new replica gets calls within 5 s
    # For earlier gateways, which send a recording, up to twice its size, in one message.
    max_receive_message_bytes: ReceiveLimit = 40 * 2**20
    device: str = Field("cpu", min_length=1, description="Torch device: cpu, cuda, cuda:1, ...")
    max_waiting_streams: int = Field(
        64,
        ge=0,
        le=100_000,
        description="Streams that wait for a slot before one is refused. Those that continue audio which somebody hears"
        " have a queue of their own, of so many and one for each slot.",
    )
    watermark_keyring: Path = Field(
        Path("~/.config/csm/watermark_keys.json"),
        description="File of the watermark keys; made with one new secret key if it is not there.",
    )
    allow_public_watermark_key: bool = Field(
        False, description="Accept the key that is published in CSM's source. Its mark proves nothing."
    )
    watermark_sdr_db: float | None = Field(
        None,
        ge=MIN_SDR_DB,
        le=MAX_SDR_DB,
        description="Decibels of the audio over its mark: less is a stronger mark, better found and better heard. Unset"
        " is what the bundle says, or else the networks' own file.",
    )
    require_full_watermark: bool = Field(
        False,
        description="Fail a stream whose audio is too short or too quiet to carry one whole watermark message.",
    )
    max_recording_seconds: float = Field(
        120.0,
        gt=0,
        le=3600,
        description="Longest recording that is encoded, or searched for the watermark in one message.",
    )
    recording_stall_seconds: float = Field(
        300.0,
        ge=0.5,
        le=3600,
        description="How long the thread for recordings may work on one before the stage is not ready and not live;"
        " more than encoding the longest takes.",
    )
    max_detection_seconds: float = Field(
        3600.0, gt=0, le=3600, description="Longest recording that is searched for the watermark as it comes in."
    )
    max_detections: int = Field(
        4, ge=1, le=64, description="Recordings searched at once as they come in, with 20 MB each; more wait."
    )
    max_waiting: int = Field(
        16, ge=0, le=10_000, description="Recordings that come in or wait for their turn before one is refused."
    )
