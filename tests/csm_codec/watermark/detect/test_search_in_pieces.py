"""The search for stretches, in pieces: the same as one window after the other, to the bit; no piece grows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest

from csm_codec.watermark.detect import stretches, windows
from csm_codec.watermark.detect.evidence import PHASES, Floats, Indices, log_chances
from csm_codec.watermark.detect.pieces import Pieces, result_of
from csm_codec.watermark.detect.stretches import GridStretch, join
from csm_codec.watermark.detect.windows import hits
from csm_codec.watermark.keys.payload import END_MARK, NUM_SYMBOLS, PERIOD
from tests.csm_codec.watermark.detect import plain_search

NUM_KEYS = 5


def random_symbols(random: np.random.Generator) -> list[Indices]:
    return [random.integers(0, 4, NUM_SYMBOLS) for _ in range(NUM_KEYS)]


def marked(random: np.random.Generator, symbols: list[Indices], num_frames: int) -> Floats:
    """Random readings with eight marks of any key, length and quality, some of which overlap, and silence."""
    chances = random.dirichlet([random.uniform(0.1, 2)] * 5, size=(PHASES, num_frames))
    for _ in range(8):
        message = np.append(1 + random.choice(symbols), END_MARK)
        start, length, shift = (int(random.integers(most)) for most in (num_frames, 900, PERIOD))
        for phase in np.flatnonzero(random.random(PHASES) < 0.7):
            frames = np.arange(start, min(num_frames, start + length))
            frames = frames[random.random(len(frames)) < random.uniform(0.5, 1)]
            chances[phase, frames] = 0.02
            chances[phase, frames, message[(frames - shift) % PERIOD]] = 0.92
    readings = np.log(chances.clip(0.02))
    readings[random.random((PHASES, num_frames)) < random.choice([0, 0.3])] = 0
    return readings.astype(np.float16).astype(np.float32)


def search(readings: Floats, symbols: list[Indices], log_limit: float) -> Pieces[tuple[list[Any], list[GridStretch]]]:
    """(windows, stretches)"""
    found = []
    for phase in range(PHASES):
        found.append((yield from hits(readings[phase], phase, symbols, log_limit)))
    joined = yield from join(np.concatenate(found), readings, symbols)
    return np.concatenate(found).tolist(), joined


@pytest.mark.parametrize(
    ("num_frames", "log_limit", "most_at_once"),
    [(30, -3.0, None), (30, -3.0, 1), (400, -2.0, None), (400, -2.0, 50), (1500, -21.0, None), (1500, -21.0, 50)],
)
def test_windows_and_stretches_are_those_of_a_plain_search_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, num_frames: int, log_limit: float, most_at_once: int | None
) -> None:
    """Whatever the size of the pieces. High limits give many windows, and also those of other courses and keys."""
    for module in (windows, stretches):
        for name in [name for name in vars(module) if name.endswith("_AT_ONCE") and most_at_once]:
            monkeypatch.setattr(module, name, most_at_once)
    random = np.random.default_rng(num_frames)
    symbols = random_symbols(random)
    readings = marked(random, symbols, num_frames)
    expected = [hit for phase in range(PHASES) for hit in plain_search.hits(readings[phase], phase, symbols, log_limit)]
    found, joined = result_of(search(readings, symbols, log_limit))
    assert found == [astuple(hit) for hit in expected]
    assert joined == plain_search.join(expected, readings, symbols)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_bounds_are_the_least_of_all_slopes_bit_for_bit(scale: float) -> None:
    """Although most slopes are left out: for readings that fit their key perfectly, roughly, or not at all."""
    random = np.random.default_rng(0)
    votes = (scale * random.standard_normal((300, NUM_SYMBOLS, 4))).astype(np.float32)
    votes[:50, :, 1:] = votes[:50, :, :1]  # ties
    random_key = random.integers(0, 4, votes.shape[:2])
    for agreeing in (0.3, 0.8, 0.95, 1.0):
        symbols = np.where(random.random(votes.shape[:2]) < agreeing, votes.argmax(axis=2), random_key)
        assert np.array_equal(log_chances(votes, symbols), plain_search.log_chances(votes, symbols))


def test_a_longer_recording_is_searched_in_more_pieces_not_in_larger_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fully marked. Counted are the windows and stretches that are worked on between two yields."""
    limits = {
        (windows, "_candidates"): ("_WINDOWS_AT_ONCE", NUM_KEYS),
        (windows, "log_chances"): ("_BOUNDS_AT_ONCE", 1),
        (stretches, "_trim"): ("_TRIMMED_AT_ONCE", 1),
        (stretches, "_group"): ("_GROUPED_AT_ONCE", 1),
        (stretches, "_joined"): ("_JOINED_AT_ONCE", 1),
    }
    done = Counter[str]()
    for (module, name), (limit, _) in limits.items():
        monkeypatch.setattr(module, limit, 50)
        monkeypatch.setattr(module, name, counted(getattr(module, name), done, name))

    def pieces(num_periods: int) -> Iterator[Counter[str]]:
        symbols = random_symbols(np.random.default_rng(1))
        message = np.full((PERIOD, 5), np.log(0.02), np.float32)
        message[np.arange(PERIOD), np.append(1 + symbols[0], END_MARK)] = np.log(0.92)
        for _ in search(np.tile(message, (PHASES, num_periods, 1)), symbols, -21.0):
            yield done.copy()
            done.clear()
        yield done.copy()

    short, long = list(pieces(30)), list(pieces(300))
    assert len(long) > 5 * len(short)
    for (_, name), (_, of_each) in limits.items():
        assert 0 < max(piece[name] for piece in long) * of_each <= 50


def counted(inner: Callable[..., Any], done: Counter[str], name: str) -> Callable[..., Any]:
    def count(*args: Any) -> Any:
        done[name] += 1 if name == "_joined" else len(args[0])
        return inner(*args)

    return count
