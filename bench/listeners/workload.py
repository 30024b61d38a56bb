"""The requests of a run and their times: a seeded Poisson process. It knows no server and no clock.

Arrivals do not wait for answers (open loop), so a server that falls behind gets no rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

PROMPTS = (
    "Yes.",
    "I'll be there at noon.",
    "The train to the coast leaves from platform nine.",
    "Could you tell me again how the story ended?",
    "It rained all night, and in the morning the garden was full of birds.",
    "We have two rooms left, one with a view of the harbour and one towards the yard.",
    "Thank you for waiting. Your parcel is on its way and should reach you on Thursday before eleven.",
    "She put the kettle on, opened the window, and read the letter twice before she said anything at all.",
)


@dataclass(frozen=True, slots=True)
class AudioLength:
    """The longest audio of a request, drawn uniformly from a range."""

    min_s: float
    max_s: float

    @classmethod
    def parse(cls, text: str) -> AudioLength:
        """text: "3" or "1:8", in seconds. Raises ValueError."""
        low, _, high = text.partition(":")
        length = cls(float(low), float(high or low))
        if not 0.08 <= length.min_s <= length.max_s <= 300:
            raise ValueError(f"The audio length is '{text}'; it must be S or MIN:MAX within 0.08 and 300 seconds.")
        return length

    def draw(self, random: Random) -> float:
        return random.uniform(self.min_s, self.max_s)


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request of a run."""

    at_s: float  # after the start of the run
    text: str
    speaker: int
    seed: int  # of sampling
    max_audio_s: float
    conversation: int | None = None  # index of the conversation that it continues


def arrivals(rate: float, duration_s: float, random: Random) -> Iterator[float]:
    """Times of a Poisson process in [0, duration_s). rate: per second"""
    at_s = random.expovariate(rate)
    while at_s < duration_s:
        yield at_s
        at_s += random.expovariate(rate)


def plan(
    rate: float,
    duration_s: float,
    seed: int,
    length: AudioLength,
    conversation_count: int = 0,
    prompts: Sequence[str] = PROMPTS,
) -> list[PlannedRequest]:
    """The requests of one run, in order of time; the same for the same arguments.

    rate: requests a second; conversation_count: prepared conversations to go on with, none for requests without context
    """
    random = Random(f"{seed}/{rate:g}/{duration_s:g}")
    return [
        PlannedRequest(
            at_s=at_s,
            text=random.choice(prompts),
            speaker=random.randrange(2),
            seed=random.randrange(2**31),
            max_audio_s=length.draw(random),
            conversation=random.randrange(conversation_count) if conversation_count else None,
        )
        for at_s in arrivals(rate, duration_s, random)
    ]
