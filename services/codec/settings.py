"""Settings of the codec stage. Importing them loads no torch."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from csm_bundle.manifest import MAX_SDR_DB, MIN_SDR_DB
from csm_codec.config import CodecConfig
from services.common.bundle_settings import BundleSettings
from services.common.setting_types import FilePath
from services.common.settings import ConnectionAge, HealthPort, MetricsPort, ServingPort, StageReceiveLimit


class CodecSettings(BundleSettings, CodecConfig):
    """The settings of the codec stage: the library's and its own."""

    model_config = SettingsConfigDict(env_prefix="CSM_CODEC_", cli_prog_name="python -m services.codec")

    port: ServingPort = 50062
    health_port: HealthPort = 50072
    metrics_port: MetricsPort = 9462
    max_connection_age_seconds: ConnectionAge = 4  # a new replica gets calls within 5 s
    # For earlier gateways, which send a recording, up to twice its size, in one message.
    max_receive_message_bytes: StageReceiveLimit = 40 * 2**20
    device: str = Field("cpu", description="Torch device: cpu, cuda, cuda:1, ...")
    max_waiting_streams: int = Field(
        64,
        ge=0,
        le=100_000,
        description="Most streams that wait for a slot; a further one is refused. Streams that continue audio which a"
        " listener hears wait in a queue of their own, of this size plus the number of slots.",
    )
    max_batch_frames: int = Field(
        8,
        ge=1,
        le=64,
        description="Most frames whose samples wait to be sent in one message. Frames wait for each other only while"
        " the player has twice as much audio left.",
    )
    watermark_keyring: FilePath = Field(
        Path("~/.config/csm/watermark_keys.json"),
        description="File of the watermark keys; made with one new secret key if it does not exist.",
    )
    allow_public_watermark_key: bool = Field(
        False, description="Accept the key that CSM's source publishes. A watermark with this key proves nothing."
    )
    watermark_sdr_db: float | None = Field(
        None,
        ge=MIN_SDR_DB,
        le=MAX_SDR_DB,
        description="Loudness of the audio above its watermark, in dB. Lower values make the watermark stronger:"
        " easier to detect, and easier to hear. When unset, the bundle's value, or else that of the networks' own"
        " file.",
    )
    require_full_watermark: bool = Field(
        False,
        description="Fail a stream whose audio is too short or too quiet to carry one whole watermark message.",
    )
    max_recording_seconds: float = Field(
        120.0,
        gt=0,
        le=3600,
        description="Longest recording, in seconds, that is encoded, or searched for the watermark in one message.",
    )
    recording_stall_seconds: float = Field(
        300.0,
        ge=0.5,
        le=3600,
        description="Seconds that the thread for recordings may work on one recording. After that the stage reports"
        " that it is neither ready nor live. Keep it above the time that encoding the longest recording takes.",
    )
    max_detection_seconds: float = Field(
        3600.0,
        gt=0,
        le=3600,
        description="Longest recording, in seconds, that is searched for the watermark while it is sent.",
    )
    max_detections: int = Field(
        4,
        ge=1,
        le=64,
        description="Most recordings that are searched at once while they are sent, with 20 MB of memory each; more"
        " wait.",
    )
    max_waiting: int = Field(
        16,
        ge=0,
        le=10_000,
        description="Most recordings that are being sent or wait for their turn; a further one is refused.",
    )

    @field_validator("device")
    @classmethod
    def _device_is_known(cls, device: str) -> str:
        if not re.fullmatch("cpu|cuda(:[0-9]{1,3})?", device):
            raise ValueError("cpu, cuda or cuda:NUMBER")
        return device
