"""The requests of the load: streams and texts with fixed seeds, or long texts of many sentences."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

STREAM_S = 6.0
TEXT_S = 8.0
SENTENCE_S = 2.0  # of a long text; an untrained voice finds no end

TEXTS = (
    "The harbour was quiet. Nobody had lit the lamps! Would the ferry come at all?",
    "She counted the steps. There were forty of them. At the top stood a door, half open.",
)
WORDS = ("A story that goes on.", "Rain fell on the roof all night long.", "Seven ships sailed on Sunday.")
SENTENCES = (
    "The harbour was quiet.", "Nobody had lit the lamps!", "Would the ferry come at all?", "She counted the steps.",
    "There were forty of them.", "At the top stood a door.", "Rain fell on the roof.", "Seven ships had sailed.",
    "One of them came back.", "It was late by then.", "Who had seen it?", "The dog barked twice.", "Then it slept.",
)  # fmt: skip

Way = Literal["stream", "text", "door"]  # StreamSynthesize; StreamSynthesizeText; /v1/audio/speech


@dataclass(frozen=True)
class Item:
    """One request of the load. The same item gives the same samples."""

    words: str
    seed: int
    way: Way
    most_s: float  # of its audio

    @property
    def name(self) -> str:
        return f"{self.way} {self.seed}"


STREAM_ITEMS = [Item(words, seed, "stream", STREAM_S) for seed, words in enumerate((*WORDS * 2, *TEXTS))]
TEXT_ITEMS = [Item(text, seed, "text", TEXT_S) for seed, text in enumerate(TEXTS, 100)]


def long_items(num_sentences: int, ways: tuple[Way, ...]) -> list[Item]:
    """A text of that many sentences for each way to send it, with different words and seeds."""
    return [
        Item(_long_text(number * 3, num_sentences), 200 + number * num_sentences, way, num_sentences * SENTENCE_S)
        for number, way in enumerate(ways)
    ]


def _long_text(first: int, num_sentences: int) -> str:
    return " ".join(itertools.islice(itertools.cycle(SENTENCES), first, first + num_sentences))
