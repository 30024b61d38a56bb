"""Simulated playback of a stream: when it starts, when it has an underrun, when a given sample is played.

It is computed from arrival times alone. Playback starts when the first audio arrives, or later by the jitter buffer. An
underrun begins when all received audio has been played, and ends when the next audio arrives. The rule is that of
`evaluate_playback` in nari-labs/benchmarks (tts_bench), with the jitter buffer added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arrival:
    """A piece of received audio."""

    at_s: float  # on the clock of the run
    audio_s: float  # its length, more than 0


@dataclass(frozen=True, slots=True)
class Stall:
    """An underrun: silence in the middle of an utterance."""

    position_s: float  # in the audio, where playback stopped
    seconds: float


@dataclass(frozen=True, slots=True)
class Playback:
    """How a stream's audio was played. Times are on the clock of the run."""

    started_at_s: float
    audio_s: float
    stalls: tuple[Stall, ...]

    @property
    def stalled_s(self) -> float:
        return sum(stall.seconds for stall in self.stalls)

    def heard_at_s(self, position_s: float) -> float:
        """The time at which the sample at `position_s` of the audio is played."""
        waited_s = sum(stall.seconds for stall in self.stalls if stall.position_s <= position_s)
        return self.started_at_s + position_s + waited_s


def play(arrivals: Sequence[Arrival], buffer_s: float = 0.0) -> Playback | None:
    """Plays a stream. Returns None when there was no audio.

    arrivals: in the order of the audio. buffer_s: how long the player waits after the first audio before it plays.
    """
    if not arrivals:
        return None
    started_at_s = arrivals[0].at_s + buffer_s
    dry_at_s, position_s = started_at_s, 0.0
    stalls = []
    for arrival in arrivals:
        if arrival.at_s > dry_at_s:
            stalls.append(Stall(position_s, arrival.at_s - dry_at_s))
            dry_at_s = arrival.at_s
        dry_at_s += arrival.audio_s
        position_s += arrival.audio_s
    return Playback(started_at_s, position_s, tuple(stalls))
