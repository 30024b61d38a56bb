"""Settings of the gateway: where the other stages are, what a request may ask for, and what it gets by default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from csm_bundle.sampling import LIMITS
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

    engine_target: str = Field(
        default="127.0.0.1:50061", min_length=1, description="Engine replicas, such as dns:///engine:50061."
    )
    engine_health_target: str = Field(default="127.0.0.1:50071", min_length=1, description="Health port of the engine.")
    codec_target: str = Field(
        default="127.0.0.1:50062", min_length=1, description="Codec replicas, such as dns:///codec:50062."
    )
    codec_health_target: str = Field(default="127.0.0.1:50072", min_length=1, description="Health port of the codec.")

    stage_tls_ca: Path | None = Field(
        default=None,
        description="PEM certificates of who signs engine and codec; with it they are called over TLS alone.",
    )
    stage_tls_certificate: Path | None = Field(
        default=None, description="PEM certificate chain shown to engine and codec, where they ask for one."
    )
    stage_tls_key: Path | None = Field(default=None, description="PEM key of --stage-tls-certificate, not encrypted.")

    auth_tokens_file: Path | None = Field(
        default=None,
        description="JSON list of name and sha256 of the tokens that are let in; everybody is when unset.",
    )
    max_streams_per_caller: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Syntheses that one caller, by the name of its token, may run at once at this gateway, unless its"
        " entry has max_streams; 0 is no limit.",
    )

    code_sealing: Literal["sealed", "open", "off"] = Field(
        default="sealed",
        description="Codes that are returned and come back: sealed, so that only gateways with the same keys can open"
        " them; open, for everybody, who can decode them without a watermark; or off, neither returned nor taken.",
    )
    code_sealing_keyring: Path = Field(
        default=Path("~/.config/csm/code_sealing_keys.json"),
        description="File of the keys of --code-sealing=sealed; made with one new key if it is not there. All gateways"
        " behind one name need the same.",
    )

    voices_database: str = Field(
        default="~/.local/share/csm/voices.sqlite",
        description="Voices that callers keep: path of a SQLite file, which is made if it is not there, or"
        " postgresql://USER:PASSWORD@HOST/NAME, which gateways behind one name need; empty keeps none. Give a URL with"
        " a password by the variable: other users of the machine can see flags.",
    )
    voices_folder: Path | None = Field(
        default=None, description="Folder of the operator's voices, one folder each (docs/voices.md)."
    )
    max_voices_per_caller: int = Field(
        default=20, ge=0, le=100_000, description="Voices that one caller, by the name of its token, may keep."
    )
    max_voice_prompt_seconds: float = Field(
        default=30.0, ge=1, le=120, description="Longest prompt of a voice that a caller keeps."
    )
    voices_from_own_output: bool = Field(
        default=False,
        description="Let callers keep voices whose prompt is this server's own output: codes of an answer, or a"
        " recording that carries the watermark.",
    )

    default_temperature: float | None = Field(
        default=None,
        ge=LIMITS["temperature"].least,
        le=LIMITS["temperature"].most,
        description="Temperature of requests that set none; else what the bundle recommends.",
    )
    default_top_k: int | None = Field(
        default=None,
        ge=LIMITS["top_k"].least,
        le=LIMITS["top_k"].most,
        description="top_k of requests that set none; else what the bundle recommends.",
    )

    max_text_length: int = Field(default=4096, ge=1, le=100_000, description="Longest text, in characters.")
    max_speaker: int = Field(default=99, ge=0, le=9999, description="Largest speaker number.")
    max_turn_count: int = Field(default=64, ge=0, le=1024, description="Most context turns.")
    max_context_audio_seconds: float = Field(
        default=160.0, ge=0, le=3600, description="Most context audio, all turns together."
    )
    max_recording_seconds: float = Field(
        default=300.0,
        gt=0,
        le=3600,
        description="Longest recording of a turn, of a search in one message, or of an operator's voice.",
    )
    max_large_requests: int = Field(
        default=4,
        ge=1,
        le=10_000,
        description="Requests of more than 512 KiB that arrive, or wait to be decoded, at once.",
    )
    max_recording_bytes: int = Field(
        default=16 * 2**20,
        ge=2**20,
        le=2**40,
        description="Samples of context recordings and prompts decoded and encoded at once, over all calls; about twice"
        " as much memory is used for them.",
    )
    max_waiting_recordings: int = Field(
        default=64, ge=0, le=100_000, description="Calls that wait for either before one is refused."
    )
    max_heap_bytes: int = Field(
        default=512 * 2**20,
        ge=0,
        le=2**40,
        description="Memory of the process above which calls that wait for their caller's next message end, those of"
        " the caller with most of them first; 0 is no limit. It needs glibc 2.33, as"
        " on Linux other than Alpine (musl) and not on macOS, and a process of the gateway's own, as not in make serve;"
        " elsewhere it is off, and a line of the log says so at the start.",
    )
    max_detection_seconds: float = Field(
        default=3600.0,
        gt=0,
        le=3600,
        description="Longest recording that is searched for the watermark as it comes in.",
    )
    max_detections: int = Field(
        default=4, ge=1, le=256, description="Recordings searched for the watermark at once, over all callers."
    )
    max_waiting_detections: int = Field(
        default=64, ge=0, le=100_000, description="Searches that wait for their turn before one is refused."
    )
    max_remembered_sentences: int = Field(
        default=3,
        ge=0,
        le=64,
        description="Most sentences of a text that are context of the next one, beside the caller's turns. Behind that"
        " many the next one has the last one alone, so that the engine mostly computes no context again.",
    )
    max_stream_audio_seconds: float = Field(
        default=300.0, ge=0.08, le=3600, description="Most audio of one call, all sentences together, and its default."
    )
    max_utterance_audio_seconds: float = Field(
        default=90.0,
        ge=0.08,
        le=3600,
        description="Most audio of one utterance, and so of each sentence of a text: where a model finds no end.",
    )

    default_deadline_seconds: float = Field(
        default=600.0, gt=0, le=86400, description="Deadline of calls whose client sets none."
    )
    max_deadline_seconds: float = Field(
        default=3600.0,
        gt=0,
        le=86400,
        description="Longest a call may run, whatever deadline its client sets.",
    )
    min_first_audio_seconds: float = Field(
        default=0.05, ge=0, le=60, description="Calls with less time left than this are refused at once."
    )
    write_timeout_seconds: float = Field(
        default=30.0, gt=0, le=3600, description="How long one message may wait for a client that does not read."
    )
    min_listener_pace: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="Least audio that a client must take, in seconds for each second that the gateway waits for it"
        " beyond --write-timeout-seconds in all; a slower one is ended. 0 is no limit.",
    )
    slot_patience_seconds: float = Field(
        default=2.0,
        gt=0,
        le=3600,
        description="A stream whose client has taken nothing for so long gives its decode slot back, and takes one"
        " again when the client reads on.",
    )
    text_idle_seconds: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="How long StreamSynthesizeText waits for the next message of its client.",
    )
    max_batch_frame_count: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Most frames per engine message after the first; 0 leaves it to the engine.",
    )
    decode_ahead_frames: int = Field(
        default=50,
        ge=1,
        le=10_000,
        description="Frames that the codec may be ahead of the client, beside the codec's own latency.",
    )
    stage_silence_seconds: float = Field(
        default=3.0,
        ge=0,
        le=600,
        description="An engine or codec that says nothing for so long while a stream waits for it is lost; they tell of"
        " their progress every second. 0 is never, and is for stages of versions that do not.",
    )
    max_failovers: int = Field(
        default=3,
        ge=0,
        le=100,
        description="How often a stream whose engine or codec was lost goes on at another replica; 0 is never.",
    )
    failover_wait_seconds: float = Field(
        default=5.0, gt=0, le=600, description="How long such a stream waits for another replica to take it up."
    )

    max_full_replicas: int = Field(
        default=7,
        ge=0,
        le=100,
        description="How often a call that a full engine or codec refused is sent to another one at once; 0 is never.",
    )
    full_wait_seconds: float = Field(
        default=30.0,
        ge=0,
        le=600,
        description="How long a stream whose caller has audio already waits for room where all engines or codecs are"
        " full.",
    )

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        check_pair(self, "stage_tls_certificate", "stage_tls_key", needs="stage_tls_ca")
        if self.max_streams_per_caller and self.auth_tokens_file is None:
            raise ValueError(
                "--max-streams-per-caller needs --auth-tokens-file: callers are told apart by their tokens."
            )
        return self
