"""Open load on an engine: requests come at random times and do not wait for answers. Playback is simulated.

The load is given as a number of streams. With arrivals at `streams / mean length` a second, that many streams run at
once if the engine keeps up. To reach that number from the beginning, as many requests of remaining length are spread
over the first seconds. Requests before the measured window are load and give no figures.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import numpy as np

from bench.lease.figures import spread_ms
from bench.lease.streams.running_engine import RunningEngine, Stream
from bench.listeners.playback import Arrival, Playback, play
from bench.listeners.workload import arrivals
from csm_engine.scheduling.admission import FRAME_SECONDS
from csm_engine.types import GenerationRequest, SamplingParams, Segment

TEXTS = (
    "Right, so that is the plan for tomorrow then.",
    "I had not thought of it that way, but it does make sense.",
    "Could you say that again, a little more slowly this time?",
    "We left early in the morning and were there before anyone else had arrived.",
)


@dataclass(frozen=True, slots=True)
class Load:
    """streams: mean number of concurrent streams. warm_s: time before the measured window of window_s.

    mean_frames: of an utterance. context_frames: of a turn as its context, in codes of num_codebooks and codebook_size;
    0 is none. same_texts: only four texts, so after the first requests a slot already has each prompt, and none is
    prefilled.
    """

    streams: int
    warm_s: float
    window_s: float
    mean_frames: int
    context_frames: int = 0
    num_codebooks: int = 32
    codebook_size: int = 2048
    same_texts: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Planned:
    at_s: float
    frames: int


def planned(load: Load) -> list[Planned]:
    """The times of requests and how many frames each asks for, in order of time."""
    numbers = random.Random(f"{load.seed} {load.streams}")

    def frames() -> int:
        return max(2, round(load.mean_frames * numbers.uniform(0.5, 1.5)))

    ramp_s = load.warm_s / 2
    plan = [
        Planned(ramp_s * index / load.streams, max(2, round(frames() * numbers.random())))
        for index in range(load.streams)
    ]
    rate = load.streams / (load.mean_frames * FRAME_SECONDS)
    plan += [Planned(at_s, frames()) for at_s in arrivals(rate, load.warm_s + load.window_s, numbers)]
    return sorted(plan, key=lambda item: item.at_s)


def run(engine: RunningEngine, load: Load) -> dict[str, object]:
    """Runs the load and returns its figures; the engine is idle afterwards."""
    streams: list[Stream] = []
    lag_s: list[float] = []
    plan = planned(load)
    began = time.monotonic()
    window_at = began + load.warm_s

    def ask(items: list[Planned]) -> None:
        for item in items:
            _sleep_until(began + item.at_s)
            streams.append(engine.ask(request_of(load, len(streams), item.frames)))
            lag_s.append(streams[-1].asked_at_s - began - item.at_s)

    ask([item for item in plan if item.at_s < load.warm_s])
    _sleep_until(window_at)
    window_at, steps, rows = time.monotonic(), engine.steps, engine.rows
    ask([item for item in plan if item.at_s >= load.warm_s])
    _sleep_until(window_at + load.window_s)
    ended = time.monotonic()
    steps, rows = engine.steps - steps, engine.rows - rows
    counted = [stream for stream in streams if stream.asked_at_s >= window_at] or streams
    held = sum(stream.ended_at_s is None for stream in streams)
    engine.clear()
    measured_s = ended - window_at
    return {
        "streams": load.streams,
        "mean_frames": load.mean_frames,
        "context_frames": load.context_frames,
        "requests_per_second": round(load.streams / (load.mean_frames * FRAME_SECONDS), 2),
        "held_at_the_end": held,
        "frames_per_second": round(rows / measured_s, 1),
        "steps_per_second": round(steps / measured_s, 1),
        "rows_per_step": round(rows / max(1, steps), 1),
        "asked_late_ms": spread_ms(lag_s),
        **figures_of(counted, ended),
    }


def request_of(load: Load, number: int, frames: int) -> GenerationRequest:
    """One utterance, with a unique turn as context if the load asks for one."""
    speaker, text = number % 4, TEXTS[number % len(TEXTS)]
    if not load.same_texts:
        text = f"{number}: {text}"
    segments = [Segment(speaker, text)]
    if load.context_frames:
        numbers = np.random.default_rng(number)
        codes = numbers.integers(1, load.codebook_size, (load.context_frames, load.num_codebooks))
        segments.insert(0, Segment(1 - speaker % 2, TEXTS[number % 3], codes.astype(np.int16)))
    return GenerationRequest(f"{load.streams}-{number}", segments, frames, SamplingParams(seed=number), live=True)


def figures_of(streams: list[Stream], ended_s: float) -> dict[str, object]:
    """The figures of at least one stream. ended_s: end of the window. A stream without audio by then is `silent`."""
    first = [stream.arrived_at_s[0] - stream.asked_at_s for stream in streams if stream.arrived_at_s]
    refused = sum(
        stream.sequence is not None and stream.sequence.done() and stream.sequence.exception() is not None
        for stream in streams
    )
    row: dict[str, object] = {
        "counted": len(streams),
        "refused": refused,
        "silent": len(streams) - len(first) - refused,
        "ttfa_ms": spread_ms(first),
    }
    for buffer_s in (0.0, 0.16):
        playbacks = [play for stream in streams if (play := playback_of(stream, ended_s, buffer_s)) is not None]
        dry = [playback for playback in playbacks if playback.stalls]
        row[f"with_{round(1000 * buffer_s)}_ms_buffer"] = {
            "streams_with_underrun": len(dry),
            "underruns": sum(len(playback.stalls) for playback in dry),
            "stalled_s": round(sum(playback.stalled_s for playback in dry), 3),
            "longest_stall_ms": round(1000 * max((s.seconds for p in dry for s in p.stalls), default=0.0), 1),
        }
    return row


def playback_of(stream: Stream, ended_s: float, buffer_s: float) -> Playback | None:
    """A stream's playback, None without frames. A stream in an underrun at the window's end is stalled until then."""
    arrivals = [Arrival(at_s, FRAME_SECONDS) for at_s in stream.arrived_at_s if at_s <= ended_s]
    if stream.ended_at_s is None and arrivals:
        dry_at_s = arrivals[0].at_s + buffer_s + FRAME_SECONDS * len(arrivals)
        if dry_at_s < ended_s:
            arrivals.append(Arrival(ended_s, FRAME_SECONDS))
    return play(arrivals, buffer_s)


def _sleep_until(at_s: float) -> None:
    wait = at_s - time.monotonic()
    if wait > 0:
        time.sleep(wait)
