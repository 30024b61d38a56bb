"""Settings of the gateway: where the other stages are, what a request may ask for, and what it gets by default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from csm_bundle.sampling import LIMITS
from services.common.setting_types import FilePath, GrpcTarget, zero_or_at_least
from services.common.settings import (
    ConnectionStreams,
    HealthPort,
    MetricsPort,
    ServingPort,
    StageSettings,
    check_pair,
)


class GatewaySettings(StageSettings):
    """The settings of the gateway."""

    model_config = SettingsConfigDict(env_prefix="CSM_GATEWAY_", cli_prog_name="python -m services.gateway")
    former_names: ClassVar[Mapping[str, str]] = {
        "max_repairs": "max_failovers",
        "repair_wait_seconds": "failover_wait_seconds",
    }

    port: ServingPort = 50051
    health_port: HealthPort = 50052
    metrics_port: MetricsPort = 9460
    max_streams_per_connection: ConnectionStreams = 512

    engine_target: GrpcTarget = Field(
        default="127.0.0.1:50061", description="gRPC target of the engines, such as dns:///engine:50061."
    )
    engine_health_target: GrpcTarget = Field(
        default="127.0.0.1:50071", description="gRPC target of the engines' health port."
    )
    codec_target: GrpcTarget = Field(
        default="127.0.0.1:50062", description="gRPC target of the codecs, such as dns:///codec:50062."
    )
    codec_health_target: GrpcTarget = Field(
        default="127.0.0.1:50072", description="gRPC target of the codecs' health port."
    )

    stage_tls_ca: FilePath | None = Field(
        default=None,
        description="PEM file of the CAs of engine and codec. With it, the gateway calls them over TLS only.",
    )
    stage_tls_certificate: FilePath | None = Field(
        default=None, description="PEM file of the certificate chain that the gateway presents to engine and codec."
    )
    stage_tls_key: FilePath | None = Field(
        default=None, description="PEM file of the key of --stage-tls-certificate, not encrypted."
    )

    auth_tokens_file: FilePath | None = Field(
        default=None,
        description="JSON file with the name and the SHA-256 of each token that is accepted (docs/security.md). When"
        " unset, every caller is accepted.",
    )
    max_streams_per_caller: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Most syntheses that one caller (name of a token) runs at once at this gateway; max_streams in the"
        " token's entry overrides it. 0 is no limit.",
    )

    code_sealing: Literal["sealed", "open", "off"] = Field(
        default="sealed",
        description="Codes in responses and contexts. sealed: encrypted, only gateways with the same keys can open"
        " them. open: readable; whoever has them can decode them to audio without a watermark. off: neither returned"
        " nor accepted.",
    )
    code_sealing_keyring: FilePath = Field(
        default=Path("~/.config/csm/code_sealing_keys.json"),
        description="File of the keys for --code-sealing=sealed; made with one new key if it does not exist. All"
        " gateways behind one name need the same file.",
    )

    voices_database: str = Field(
        default="~/.local/share/csm/voices.sqlite",
        description="Database of the voices that callers keep: the path of a SQLite file, which is made if it does not"
        " exist, or postgresql://USER:PASSWORD@HOST/NAME. Several gateways behind one name need PostgreSQL. Empty:"
        " callers cannot keep voices. Set a URL with a password by the variable, because other users of the machine"
        " can see flags.",
    )
    voices_folder: FilePath | None = Field(
        default=None, description="Folder of the operator's voices, one folder for each (docs/voices.md)."
    )
    max_voices_per_caller: int = Field(
        default=20, ge=0, le=100_000, description="Most voices that one caller (name of a token) may keep."
    )
    max_voice_prompt_seconds: float = Field(
        default=30.0, ge=1, le=120, description="Longest prompt of a voice that a caller keeps, in seconds."
    )
    voices_from_own_output: bool = Field(
        default=False,
        description="Let callers keep voices made from this server's own output: the prompt may be codes of a"
        " response, or a recording that carries the watermark.",
    )

    default_temperature: float | None = Field(
        default=None,
        ge=LIMITS["temperature"].least,
        le=LIMITS["temperature"].most,
        description="Temperature of requests that set none. When unset, the bundle's recommendation.",
    )
    default_top_k: int | None = Field(
        default=None,
        ge=LIMITS["top_k"].least,
        le=LIMITS["top_k"].most,
        description="top_k of requests that set none. When unset, the bundle's recommendation.",
    )

    max_text_length: int = Field(
        default=4096,
        ge=1,
        le=100_000,
        description="Longest text in characters: of a request, of a turn, and of one message of StreamSynthesizeText.",
    )
    max_speaker: int = Field(default=99, ge=0, le=9999, description="Largest speaker number that a request may use.")
    max_turn_count: int = Field(default=64, ge=0, le=1024, description="Most turns in a context.")
    max_context_audio_seconds: float = Field(
        default=160.0, ge=0, le=3600, description="Most audio in a context, in seconds, all turns together."
    )
    max_recording_seconds: float = Field(
        default=300.0,
        gt=0,
        le=3600,
        description="Longest recording of a turn, an operator's voice, or a watermark search in one message, in"
        " seconds. The codec's own --max-recording-seconds is less by default.",
    )
    max_large_requests: int = Field(
        default=4,
        ge=1,
        le=10_000,
        description="Most requests of more than 512 KiB that are received, or wait to be decoded, at once. Lower it to"
        " save memory.",
    )
    max_recording_bytes: int = Field(
        default=16 * 2**20,
        ge=2**20,
        le=2**40,
        description="Most bytes of decoded samples at once, over the recordings of all calls, while they are decoded"
        " and encoded. The gateway uses about twice as much memory for them.",
    )
    max_waiting_recordings: int = Field(
        default=64,
        ge=0,
        le=100_000,
        description="Most calls that wait for --max-large-requests, and most that wait for --max-recording-bytes; a"
        " further call is refused.",
    )
    max_heap_bytes: int = Field(
        default=512 * 2**20,
        ge=0,
        le=2**40,
        description="Memory of the process, in bytes, above which the gateway ends calls that wait for their caller's"
        " next message, beginning with the caller that has most of them. 0 is no limit. It works only with glibc"
        " 2.33 or later (not with musl, as on Alpine, and not on macOS) and in a process of the gateway alone (not"
        " in make serve); elsewhere the log says at the start that it is off.",
    )
    max_detection_seconds: float = Field(
        default=3600.0,
        gt=0,
        le=3600,
        description="Longest recording, in seconds, that is searched for the watermark while it is sent.",
    )
    max_detections: int = Field(
        default=4, ge=1, le=256, description="Most watermark searches at once, of all callers together."
    )
    max_waiting_detections: int = Field(
        default=64, ge=0, le=100_000, description="Most watermark searches that wait; a further one is refused."
    )
    max_remembered_sentences: int = Field(
        default=3,
        ge=0,
        le=64,
        description="Most earlier sentences of a text that are context of its next sentence, beside the caller's"
        " turns. When the limit is reached, the next sentence has only the one before it as context, and the number"
        " grows again from there. The engine thus rarely computes context anew.",
    )
    max_stream_audio_seconds: float = Field(
        default=300.0,
        ge=0.08,
        le=3600,
        description="Most audio of one call, in seconds, all sentences together. It is also the default of"
        " max_audio_duration.",
    )
    max_utterance_audio_seconds: float = Field(
        default=90.0,
        ge=0.08,
        le=3600,
        description="Most audio of one utterance, and so of each sentence, in seconds. It ends an utterance that the"
        " model does not end.",
    )

    default_deadline_seconds: float = Field(
        default=600.0, gt=0, le=86400, description="Deadline, in seconds, of calls whose client sets none."
    )
    max_deadline_seconds: float = Field(
        default=3600.0,
        gt=0,
        le=86400,
        description="Longest time in seconds that a call may run, whatever deadline its client sets.",
    )
    min_first_audio_seconds: float = Field(
        default=0.05, ge=0, le=60, description="Calls with less time left than this, in seconds, are refused at once."
    )
    write_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="Seconds that one message may wait for a client that does not read; then the call ends.",
    )
    min_listener_pace: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="Slowest pace of a client: seconds of audio that it must take for each second that the gateway"
        " waits for it. It applies once the gateway has waited --write-timeout-seconds in all; the call of a slower"
        " client ends. 0 is no limit.",
    )
    slot_patience_seconds: float = Field(
        default=2.0,
        gt=0,
        le=3600,
        description="Seconds after which a stream whose client takes no audio gives up its slot at the codec. It takes"
        " a slot again when the client reads on.",
    )
    text_idle_seconds: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="Seconds that StreamSynthesizeText waits for the caller's next message while nothing is being"
        " spoken; then the call ends.",
    )
    max_batch_frame_count: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Most frames in an engine's message after the first; 0 leaves the number to the engine.",
    )
    decode_ahead_frames: int = Field(
        default=50,
        ge=1,
        le=10_000,
        description="Most frames that the codec decodes ahead of the client, beyond the codec's own latency.",
    )
    stage_silence_seconds: Annotated[float, zero_or_at_least(2)] = Field(
        default=3.0,
        ge=0,
        le=600,
        description="Seconds without a message after which an engine or codec that a stream waits for counts as lost."
        " Both send their progress every second, so it must be at least 2. 0 never counts one as lost: use it with"
        " stages of versions that send no progress.",
    )
    max_failovers: int = Field(
        default=3,
        ge=0,
        le=100,
        description="How often a stream that lost its engine or codec continues at another replica; 0 is never.",
    )
    failover_wait_seconds: float = Field(
        default=5.0, gt=0, le=600, description="Seconds that such a stream waits for another replica to take it."
    )

    max_full_replicas: int = Field(
        default=7,
        ge=0,
        le=100,
        description="How often a call that a full replica refused is sent to another one at once; 0 is never. It is not"
        " sent again when all known replicas have refused it.",
    )
    full_wait_seconds: float = Field(
        default=30.0,
        ge=0,
        le=600,
        description="Seconds that a stream whose caller already has audio waits for a slot when all replicas are full.",
    )

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        check_pair(self, "stage_tls_certificate", "stage_tls_key", needs="stage_tls_ca")
        if self.max_streams_per_caller and self.auth_tokens_file is None:
            raise ValueError("--max-streams-per-caller needs --auth-tokens-file: tokens tell callers apart.")
        if self.min_first_audio_seconds >= self.max_deadline_seconds:
            raise ValueError(
                f"--min-first-audio-seconds ({self.min_first_audio_seconds:g}) must be less than"
                f" --max-deadline-seconds ({self.max_deadline_seconds:g}): every call would be refused."
            )
        return self
