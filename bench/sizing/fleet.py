"""What one stream was measured to take, and what a fleet and a minute of speech take by it. Pure arithmetic."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENGINE, CODEC = "engine_under_load_csm_1b_h100.json", "codec_published_bfloat16_xeon.json"
SLOW_CODEC = "codec_published_cpu.json"  # a CPU without AVX-512
GATEWAY, NETWORK = "gateway_cpu.json", "network_tiny_cpu.json"
ENGINE_HOST, CODEC_HOST = "engine_host_cpu.json", "codec_host_cpu.json"
FIRST_AUDIO_MS = 1000  # a load counts as held when 95 % of its first frames come sooner
FULL_AT = 0.75  # the share of its slots at which deploy/kubernetes adds an engine
RATE_HZ = 24_000  # of 16-bit samples to callers

Json = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """What one stream costs, each figure with the machine that it was measured on."""

    streams_per_gpu: int
    gpu: str
    streams_per_host_core: int  # of an engine's host, whatever its GPU; a message for each frame
    host_streams: int  # that it was measured with, at once
    streams_per_host_core_8: int  # the same with up to eight frames in a message
    host_streams_8: int
    host_cpu: str
    codec_host_ms: float  # of a core for a codec frame of one stream, whatever the GPU, with gRPC
    codec_host_streams: int  # that it was measured with, at once
    codec_host_cpu: str
    streams_per_codec_core: float
    codec_batch: int
    codec_core: str
    streams_per_slow_core: float
    slow_core: str
    gateway_core: float  # share of a core for a stream in real time
    gateway_streams: int  # that it was measured with, at once
    gateway_cpu: str
    engine_bytes: int  # between gateway and engine, both ways, for a second of audio
    codec_bytes: int
    network_cpu: str  # that bytes and memory were measured on
    rss_mb: dict[str, float]  # of a process, by stage

    @classmethod
    def read(cls, folder: Path) -> Measured:
        """Raises FileNotFoundError for a file that is not there, ValueError for one without the figures."""
        files = (ENGINE, ENGINE_HOST, CODEC, SLOW_CODEC, CODEC_HOST, GATEWAY, NETWORK)
        engine, host, codec, slow, codec_host, gateway, network = (
            json.loads((folder / name).read_text()) for name in files
        )
        held = [row for row in engine["rows"] if is_held(row)]
        both, slow_both = ([row for row in file["rows"] if row["arm"] == "both"] for file in (codec, slow))
        near = [row for row in network["rows"] if not row["delay_ms"] and not row["loss_percent"]]
        if not (held and both and slow_both and near):
            raise ValueError(f"{folder} has no load that an engine held, no codec arm `both`, or no undelayed network.")
        busiest = max(gateway["rows"], key=lambda row: (-row["frames_per_message"], row["streams"]))
        host_rows = sorted((row for row in host["rows"] if not row["underruns"]), key=lambda row: -row["streams"])
        one, eight = (next(row for row in host_rows if row["most_frames_per_message"] == most) for most in (1, 8))
        most_streams = max(codec_host["rows"], key=lambda row: row["streams"])
        best = max(both, key=lambda row: row["streams_in_real_time"])
        return cls(
            streams_per_gpu=max(row["streams"] for row in held),
            gpu=engine["device"],
            streams_per_host_core=one["streams_a_core"],
            host_streams=one["streams"],
            streams_per_host_core_8=eight["streams_a_core"],
            host_streams_8=eight["streams"],
            host_cpu=host["device"],
            codec_host_ms=most_streams["stage_ms"],
            codec_host_streams=most_streams["streams"],
            codec_host_cpu=codec_host["device"],
            streams_per_codec_core=best["streams_in_real_time"],
            codec_batch=best["batch"],
            codec_core=codec["device"],
            streams_per_slow_core=max(row["streams_in_real_time"] for row in slow_both),
            slow_core=slow["device"],
            gateway_core=round(busiest["gateway_cpu_ms"] / 1000, 4),
            gateway_streams=busiest["streams"],
            gateway_cpu=gateway["device"],
            engine_bytes=near[0]["engine_bytes_per_audio_s"],
            codec_bytes=near[0]["codec_bytes_per_audio_s"],
            network_cpu=network["device"],
            rss_mb={name: stage["rss_mb"] for name, stage in network["stages"].items()},
        )


def is_held(row: Json) -> bool:
    """Whether an engine held this load: all began, none ran dry, first frames soon."""
    late = row["ttfa_p95_ms"] is None or row["ttfa_p95_ms"] > FIRST_AUDIO_MS
    return not (late or row["refused"] or row["silent"] or row["streams_with_underrun"])


@dataclass(frozen=True)
class Fleet:
    """What a number of listeners at the same moment needs."""

    listeners: int
    engines: int
    codec_cores: int
    gateway_cores: int
    inner_bits: float  # a second, between the stages
    outer_bits: float  # a second, to the callers, at least


def fleet(listeners: int, measured: Measured, full_at: float = FULL_AT) -> Fleet:
    """full_at: share of a replica's measured load that it is given"""
    streams = listeners / full_at
    return Fleet(
        listeners,
        math.ceil(streams / measured.streams_per_gpu),
        math.ceil(streams / measured.streams_per_codec_core),
        math.ceil(streams * measured.gateway_core),
        8.0 * listeners * (measured.engine_bytes + measured.codec_bytes),
        8.0 * listeners * 2 * RATE_HZ,
    )


@dataclass(frozen=True)
class CodecOnGpu:
    """A model of the codec on an H100 in bfloat16 (docs/codec-on-a-gpu.md). It has not run on a GPU."""

    host_ms: float  # of a core for a codec frame of one stream; measured on a CPU
    rows: int = 1024  # streams in one captured step
    step_ms: float = 33.8  # of the GPU for a codec frame of all rows; modelled
    near_start_ms: float = 67.4  # the same with a quarter of the streams near their start; modelled
    frame_ms: float = 80.0  # of audio

    @property
    def streams_per_core(self) -> int:
        """What the host's part leaves."""
        return int(self.frame_ms / self.host_ms)

    def cards(self, streams: float) -> int:
        return math.ceil(streams / self.rows)

    def processes(self, streams: float) -> int:
        return math.ceil(streams / self.streams_per_core)

    def cores(self, streams: float) -> int:
        return math.ceil(streams * self.host_ms / self.frame_ms)


@dataclass(frozen=True)
class Minute:
    """What one minute of speech takes, at a fleet that is full to a share."""

    gpu_hours: float
    core_hours: float
    gigabytes: float  # to callers

    def cost(self, gpu_hour: float, core_hour: float, gigabyte: float) -> float:
        return self.gpu_hours * gpu_hour + self.core_hours * core_hour + self.gigabytes * gigabyte


def minute(measured: Measured) -> Minute:
    cores = 1 / measured.streams_per_codec_core + measured.gateway_core
    return Minute(1 / (60 * measured.streams_per_gpu * FULL_AT), cores / (60 * FULL_AT), 60 * 2 * RATE_HZ / 1e9)
