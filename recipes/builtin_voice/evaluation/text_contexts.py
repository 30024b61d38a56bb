"""The word error rate of long texts, by how many earlier sentences are the context of the next one.

    python -m recipes.builtin_voice.evaluation.text_contexts bundles/builtin --windows 3-3,1-3

A text consists of sentences of a set in random order, spoken by both speakers, each with the codes of earlier ones as
context. A window "1-3" means up to 3 earlier sentences, and instead of 4 only the last one. "3-3" slides by one
sentence. All windows have the same texts and seeds. The interval is the bootstrap interval of the difference from the
first window, over texts or over sentences, whichever is wider.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from csm_engine.types import Segment
from recipes.builtin_voice import flite
from recipes.builtin_voice.evaluation.recognizer import recognize_all
from recipes.builtin_voice.evaluation.results import Results, Row
from recipes.builtin_voice.evaluation.sets import DEVELOPMENT, EvaluationText, evaluation_texts
from recipes.builtin_voice.evaluation.voice import Saying, Voice

SEED = 5
DRAWS = 10_000
FIRST_SEED = 10_000  # difference of the first seeds of two rounds
SPEAKERS = range(len(flite.VOICES))
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Window:
    """The number of earlier sentences in the context: up to `most`, and `least` instead of one more."""

    least: int
    most: int

    @staticmethod
    def of(text: str) -> Window:
        least, _, most = text.partition("-")
        return Window(int(least), int(most))

    def after(self, count: int) -> int:
        """The number for the next sentence, after `count` for the last one."""
        return count + 1 if count < self.most else self.least

    def __str__(self) -> str:
        return f"{self.least}-{self.most}"


class LongTexts:
    """Speaks texts of one length by both speakers, and counts the words that are recognised."""

    def __init__(self, voice: Voice, sentences: Sequence[EvaluationText], length: int, listeners: int) -> None:
        """length: sentences in a text. listeners: processes that recognise."""
        self._voice, self._sentences, self._length, self._listeners = voice, sentences, length, listeners
        self._random = np.random.default_rng(SEED)
        self._rounds = 0

    def next_round(self, windows: Sequence[Window], orders: int) -> Round:
        """Speaks new texts with each window. orders: how many random orders of all sentences are cut into texts."""
        count = len(self._sentences)
        cut = count // self._length * self._length
        drawn = [self._random.permutation(count)[:cut].reshape(-1, self._length) for _ in range(orders)]
        texts = np.repeat(np.concatenate(drawn), len(SPEAKERS), axis=0)
        speakers = np.tile(SPEAKERS, len(texts) // len(SPEAKERS))
        seed, self._rounds = FIRST_SEED * self._rounds, self._rounds + 1
        said = {window: self._say(window, texts, speakers, seed) for window in windows}
        clips = {saying.codes.tobytes(): saying.pcm for sayings in said.values() for saying in chain(*sayings)}
        # Windows share the first sentences of a text, which are recognised once.
        words = recognize_all(None, list(clips.values()), self._voice.sample_rate_hz, self._listeners)
        heard = dict(zip(clips, words, strict=True))
        errors, positions = {}, {}
        for window, sayings in said.items():
            counts = [
                [
                    self._sentences[index].word_errors(heard[saying.codes.tobytes()])
                    for index, saying in zip(text, its, strict=True)
                ]
                for text, its in zip(texts, sayings, strict=True)
            ]
            errors[window] = np.array(counts)
            positions[window] = np.array([[saying.context_rows for saying in its] for its in sayings])
        return Round(texts, speakers, errors, positions)

    def _say(self, window: Window, texts: Counts, speakers: Counts, first_seed: int) -> list[list[Saying]]:
        """The utterances of each text."""
        contexts: list[list[Segment]] = [[] for _ in texts]
        said: list[list[Saying]] = [[] for _ in texts]
        for place in range(self._length):
            nexts = [
                Segment(int(who), self._sentences[index].text)
                for who, index in zip(speakers, texts[:, place], strict=True)
            ]
            prompts = [[*context, new] for context, new in zip(contexts, nexts, strict=True)]
            sayings = self._voice.say(prompts, first_seed=first_seed + FIRST_SEED // 100 * place)
            for number, (new, saying) in enumerate(zip(nexts, sayings, strict=True)):
                said[number].append(saying)
                if len(saying.codes):  # as in the service, a sentence without sound is no context
                    turns = [*contexts[number], Segment(new.speaker, new.text, saying.codes)]
                    contexts[number] = turns[len(turns) - window.after(len(turns) - 1) :]
        return said


@dataclass(frozen=True, slots=True)
class Round:
    """Some texts, spoken with each window."""

    texts: Counts  # (texts, sentences): indices of the sentences
    speakers: Counts  # (texts,)
    errors: dict[Window, Counts]  # (texts, sentences, 2): wrong words, and words
    positions: dict[Window, Counts]  # (texts, sentences): of the context


class PooledRounds:
    """The figures of all rounds together."""

    def __init__(self, rounds: Sequence[Round]) -> None:
        self._rounds = rounds

    def row(self, window: Window, first: Window) -> Row:
        """The word error rate of a window, and its difference from the window `first`."""
        texts = np.concatenate([each.texts for each in self._rounds])
        speakers = np.concatenate([each.speakers for each in self._rounds])
        wrong, words = np.moveaxis(np.concatenate([each.errors[window] for each in self._rounds]), -1, 0)
        difference = wrong - np.concatenate([each.errors[first][..., 0] for each in self._rounds])
        positions = np.concatenate([each.positions[window] for each in self._rounds])
        row: Row = {"window": str(window), "sentences": wrong.size, "words": int(words.sum())}
        row |= {"context_positions": round(float(positions.mean())), "words_wrong": _rate(wrong, words)}
        for speaker in SPEAKERS:
            row[flite.VOICES[speaker]] = _rate(wrong[speakers == speaker], words[speakers == speaker])
        by_sentence = [np.bincount(texts.ravel(), of.ravel()) for of in (difference, words)]
        intervals = [_interval(difference.sum(1), words.sum(1)), _interval(*by_sentence)]
        low, high = max(intervals, key=lambda ends: ends[1] - ends[0])
        return row | {"change": _rate(difference, words), "change_low": low, "change_high": high}


def _interval(differences: npt.NDArray[np.generic], words: npt.NDArray[np.generic]) -> tuple[float, float]:
    random = np.random.default_rng(SEED)
    drawn = random.integers(len(words), size=(DRAWS, len(words)))
    low, high = np.percentile(differences[drawn].sum(1) / words[drawn].sum(1), [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--windows", default="3-3,1-3,1-5,3-6")
    parser.add_argument("--set", default=DEVELOPMENT)
    parser.add_argument("--rounds", type=int, default=3, help="each writes the figures of all rounds so far")
    parser.add_argument("--orders", type=int, default=2, help="random orders of the set's sentences in a round")
    parser.add_argument("--length", type=int, default=15, help="sentences of a text")
    parser.add_argument("--listeners", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    voice = Voice(arguments.bundle)
    asked: Row = {"set": arguments.set, "length": arguments.length}
    results = Results(arguments.json, "text_contexts", ("window",), asked | voice.conditions)
    texts = LongTexts(voice, evaluation_texts(arguments.set), arguments.length, arguments.listeners)
    windows = [Window.of(window) for window in arguments.windows.split(",")]
    rounds = []
    for _ in range(arguments.rounds):
        rounds.append(texts.next_round(windows, arguments.orders))
        for window in windows:
            row = PooledRounds(rounds).row(window, windows[0])
            results.put(row)
            print(json.dumps(row), file=sys.stderr, flush=True)


def _rate(wrong: Counts, words: Counts) -> float:
    return round(float(wrong.sum() / words.sum()), 4)


if __name__ == "__main__":
    main()
