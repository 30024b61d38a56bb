"""One row of figures from the record of a run. `bench.serving` defines the figures."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from bench.listeners.load import LoadRecord, StreamRecord
from bench.listeners.percentiles import spread
from bench.listeners.playback import play

Row = dict[str, object]


def summarize(record: LoadRecord, rate: float, duration_s: float, buffer_s: float) -> Row:
    """rate: planned requests a second. duration_s: the time in which requests were sent."""
    streams = record.streams
    admitted = [stream for stream in streams if stream.outcome != "refused"]
    refused = [stream for stream in streams if stream.outcome == "refused"]
    complete = [stream for stream in streams if stream.outcome == "complete"]
    sounding = [stream for stream in streams if stream.audio]
    playbacks = [(stream, playback) for stream in sounding if (playback := play(stream.audio, buffer_s))]
    dry = [playback for _, playback in playbacks if playback.stalls]
    smooth = [stream for stream, playback in playbacks if stream.outcome == "complete" and not playback.stalls]
    stalls = [stall for playback in dry for stall in playback.stalls]
    window_audio_s = sum(audio.audio_s for stream in streams for audio in stream.audio if audio.at_s < duration_s)
    window_messages = sum(at_s < duration_s for stream in streams for at_s in stream.message_at_s)
    return {
        "rate": rate,
        "duration_s": duration_s,
        "sent": len(streams),
        "completed": len(complete),
        "refused": len(refused),
        "failed": len(admitted) - len(complete),
        "errors": dict(Counter(stream.error for stream in streams if stream.error).most_common()),
        "max_in_flight": max_overlap((stream.dispatched_at_s, stream.ended_at_s) for stream in admitted),
        "ttfa_ms": spread(stream.audio[0].at_s - stream.dispatched_at_s for stream in sounding),
        "audible_ttfa_ms": spread(
            playback.heard_at_s(stream.onset_s) - stream.dispatched_at_s
            for stream, playback in playbacks
            if stream.onset_s is not None
        ),
        "end_to_end_ms": spread(stream.ended_at_s - stream.dispatched_at_s for stream in complete),
        "rtf": spread(
            ((stream.ended_at_s - stream.dispatched_at_s) / audio_s(stream) for stream in complete if stream.audio),
            scale=1,
            digits=3,
        ),
        "refused_after_ms": spread(stream.ended_at_s - stream.dispatched_at_s for stream in refused),
        "underrun_rate": ratio(len(dry), len(sounding)),
        "underruns": len(stalls),
        "stalled_s": round(sum(stall.seconds for stall in stalls), 3),
        "longest_stall_ms": round(1000 * max((stall.seconds for stall in stalls), default=0.0), 1),
        "streaming_viability": ratio(len(smooth), len(admitted)),
        "audio_s_per_s": round(window_audio_s / duration_s, 3),
        "messages_per_s": round(window_messages / duration_s, 2),
        "scheduling_lag_ms": spread(stream.dispatched_at_s - stream.planned_at_s for stream in streams),
        "probe_ms": spread(record.probes.took_s),
        "failed_probes": record.probes.failed,
    } | server_side(complete)


def server_side(complete: Sequence[StreamRecord]) -> Row:
    """The server's own figures for the same streams, which show where the time went."""
    stats = [stream.summary.stats for stream in complete if stream.summary is not None]
    return {
        "server_queue_ms": spread(stat.queue_duration.ToNanoseconds() / 1e9 for stat in stats),
        "server_first_audio_ms": spread(stat.first_audio_latency.ToNanoseconds() / 1e9 for stat in stats),
        "mean_context_tokens": round(statistics.fmean(stat.context_token_count for stat in stats), 1)
        if stats
        else None,
        "dropped_turns": sum(stat.dropped_turn_count for stat in stats),
    }


def audio_s(stream: StreamRecord) -> float:
    return sum(audio.audio_s for audio in stream.audio)


def max_overlap(spans: Iterable[tuple[float, float]]) -> int:
    """The largest number of spans that overlap. A span that ends when another begins does not overlap it."""
    steps = sorted((at_s, step) for span in spans for at_s, step in zip(span, (1, -1), strict=True))
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
