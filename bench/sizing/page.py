"""The text of docs/sizing.md."""

from __future__ import annotations

from bench.sizing.fleet import (
    CODEC,
    CODEC_HOST,
    ENGINE,
    ENGINE_HOST,
    FIRST_AUDIO_MS,
    FULL_AT,
    GATEWAY,
    NETWORK,
    SLOW_CODEC,
    CodecOnGpu,
    Measured,
    fleet,
    minute,
)

STEPS = (1, 1_000, 100_000, 1_000_000)


def page(measured: Measured) -> str:
    """docs/sizing.md."""
    million, one = fleet(1_000_000, measured), minute(measured)
    rows = "\n".join(
        f"| {each.listeners:,} | {each.engines:,} | {each.codec_cores:,} | {each.gateway_cores:,} |"
        f" {bits(each.inner_bits)} | {bits(each.outer_bits)} |"
        for each in (fleet(count, measured) for count in STEPS)
    )
    model = CodecOnGpu(measured.codec_host_ms)
    modelled = "\n".join(
        f"| {count:,} | {model.cards(count / FULL_AT):,} | {model.processes(count / FULL_AT):,} |"
        f" {model.cores(count / FULL_AT):,} | {fleet(count, measured).codec_cores:,} |"
        for count in STEPS
    )
    rss = ", ".join(f"{name} {mb:.0f} MB" for name, mb in measured.rss_mb.items())
    ratio, full = million.codec_cores / million.engines, f"{100 * FULL_AT:.0f} %"
    return f"""# Sizing: from one machine to a million listeners

Made by `python -m bench.sizing --write` from `bench/results`; do not edit it. A listener is a stream that plays now, in
real time. A caller that listens a third of the time is a third of a listener.

## What one stream takes

| | measured | on | from |
|---|---|---|---|
| streams per GPU, engine | {measured.streams_per_gpu} | {measured.gpu} | {link(ENGINE)} |
| streams per core, engine's host | {measured.streams_per_host_core} | {measured.host_cpu} | {link(ENGINE_HOST)} |
| streams per core, codec with mark | {measured.streams_per_codec_core:g} | {measured.codec_core} | {link(CODEC)} |
| the same on a CPU without AVX-512 | {measured.streams_per_slow_core:g} | {measured.slow_core} | {link(SLOW_CODEC)} |
| cores per stream, gateway | {measured.gateway_core:g} | {measured.gateway_cpu} | {link(GATEWAY)} |
| bytes a second of audio, gateway and engine | {measured.engine_bytes:,} | {measured.network_cpu} | {link(NETWORK)} |
| bytes a second of audio, gateway and codec | {measured.codec_bytes:,} | {measured.network_cpu} | {link(NETWORK)} |

* **Engine:** the highest load of the file that was held: every stream began, none ran dry, 95 % of the first frames
  came within {FIRST_AUDIO_MS} ms. CSM-1B's sizes with random weights, alone, with products that are not the default
  any more. `--slots` must be as large. The next load of the file was not held.
* **Engine's host:** requests, scheduler and gRPC of a process, whose Python has one core: a limit, whatever the GPU.
  {measured.host_streams} streams at once, a message for each frame, none ran dry. With up to eight frames in
  a message, which is the default for streams ahead of their playback: {measured.streams_per_host_core_8}, measured with
  {measured.host_streams_8} at once. The callers ran on the same machine.
* **Codec:** the published sizes, random weights, batch {measured.codec_batch}, the best of the file. On the CPU with
  AVX-512 Mimi is in bfloat16 (`--dtype bfloat16`) and the watermark in float32; on the other both are in float32, as
  the defaults are. One core had work, and the figure is a throughput: on the CPU without AVX-512 a core that plays as
  many in real time was not tried ([measured.md](measured.md#codec)). The tables below take the CPU with AVX-512: choose
  such ones, or measure yours (`bench.codec`). [deploy.md](deploy.md#cores-threads-and-slots) says which threads and
  slots to set.
* **Gateway:** {measured.gateway_streams} streams at once through one process, a message for each frame, before
  stand-ins of engine and codec that keep to real time. Messages of more frames cost less.
* **Bytes:** the tiny bundle, which has CSM-1B's 32 codebooks and 24 kHz, one stream at a time. They are those of IP,
  both ways, with acknowledgements and health checks.

**Memory.** Keys and values of CSM-1B are 64 MiB a slot in bfloat16, by its shapes ([engine.md](engine.md)); the memory
of a GPU in use was not measured. Processes of the tiny bundle, resident: {rss}
({link(NETWORK)}).

## A fleet

Every replica is given {full} of what it held: the share of its slots at which the autoscaler adds an engine.

| listeners | engines (GPUs) | codec cores | gateway cores | between the stages | to callers |
|---:|---:|---:|---:|---:|---:|
{rows}

* engines = listeners / {FULL_AT:g} / {measured.streams_per_gpu}
* codec cores = listeners / {FULL_AT:g} / {measured.streams_per_codec_core:g}
* gateway cores = listeners / {FULL_AT:g} × {measured.gateway_core:g}
* between the stages = listeners × ({measured.engine_bytes:,} + {measured.codec_bytes:,}) bytes a second
* to callers = listeners × 48,000 bytes a second of 16-bit samples at 24 kHz, and more for what carries them

One replica more of each stage for a loss, and at least two of each. A million listeners want
{million.codec_cores:,} cores of codecs for {million.engines:,} GPUs, {ratio:.0f} cores a GPU: the codec is where to
save. No deployment of this size was tried. Its name server, gateways that each hold connections to thousands of
engines, and Kubernetes itself have limits of their own. Several deployments side by side, of some thousand listeners
each, avoid that question.

## The codec on a GPU: a model

The codec can run in captured steps on a GPU ([codec-on-a-gpu.md](codec-on-a-gpu.md)). **It has not run on one**; of
this section only the host's part was measured, on a CPU. Nothing of it is in the tables above and below.

* **Model:** a codec frame of {model.rows:,} streams takes an H100 {model.step_ms:g} ms in bfloat16, of the
  {model.frame_ms:g} ms that it lasts; {model.near_start_ms:g} ms with a quarter of the streams in their first two
  seconds.
* **Measured:** the host's part is {model.host_ms:g} ms of a core for a stream and frame, gRPC included, with
  {measured.codec_host_streams} streams at once on {measured.codec_host_cpu}
  ({link(CODEC_HOST)}). So a core carries {model.streams_per_core} streams, whatever the
  GPU. Counted as a core each, {model.processes(model.rows)} processes share a card. Whether they do so without loss of
  time is neither modelled nor measured.

| listeners | codec cards | codec processes | cores for the host's part | cores of codecs without a GPU |
|---:|---:|---:|---:|---:|
{modelled}

* codec cards = listeners / {FULL_AT:g} / {model.rows:,}
* codec processes = listeners / {FULL_AT:g} / {model.streams_per_core}
* cores for the host's part = listeners / {FULL_AT:g} × {model.host_ms:g} / {model.frame_ms:g}

## A minute of speech

With G the price of a GPU for an hour, C that of a core for an hour and B that of a gigabyte to callers:

    cost of a minute = {one.gpu_hours:.3g} × G + {one.core_hours:.3g} × C + {one.gigabytes:.3g} × B

It holds for a fleet that is always {full} full. At a mean load of a share s of that, divide the first two by s.
`python -m bench.sizing --gpu-hour G --core-hour C --gigabyte B` calculates it. Storage, memory and traffic between
zones are not in it.

## Not measured

* the whole service on a GPU: engine, codec and gateway together
* the codec on a GPU, alone or beside an engine, by MIG or time-slicing
* the default form of the engine at this load, the published weights, and any GPU but the one above
* a gateway under hundreds of streams; the bytes of Opus, MP3 and AAC to callers; the HTTP server's cores
* more than one engine on GPUs; conversations' share of reuse there
"""


def link(name: str) -> str:
    return f"[`{name}`](../bench/results/{name})"


def bits(per_second: float) -> str:
    """ "461 Gbit/s"."""
    for unit, size in (("Gbit/s", 1e9), ("Mbit/s", 1e6)):
        if per_second >= size:
            return f"{per_second / size:.3g} {unit}"
    return f"{per_second / 1e3:.3g} kbit/s"
