"""Marked stretches: windows of one key and one course of the message, joined, with their ends. No torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from csm_codec.watermark.detect.evidence import PHASES, Indices, Readings
from csm_codec.watermark.detect.pieces import Pieces
from csm_codec.watermark.detect.windows import Hits
from csm_codec.watermark.keys.payload import END_MARK, NUM_SYMBOLS, PERIOD

MAX_GAP_PERIODS = 6  # without a hit, within one stretch: a pause of the speaker, or a bad line
_COURSE = PERIOD * PHASES  # places of a message on the grid
_NEAR = PHASES // 2  # places by which two windows of one course may differ: clocks drift, phases are a grid
_RECENT = 64  # windows of a stretch among which the last end is looked for
_SILENCE = -0.05  # likewise of a silent frame, which could carry nothing
_EVIDENCE = (-1.0, 0.8)  # for the mark, of one frame: a stretch grows where at least 56 % of the frames are read right
_TRIMMED_AT_ONCE = 512  # windows: 10 MB
_GROUPED_AT_ONCE = 4096  # windows
_JOINED_AT_ONCE = 32  # stretches


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a recording that carries the mark of one key.

    confidence: share of the key's twenty symbols that agree over the whole stretch.
    """

    start_s: float
    end_s: float
    key_id: str
    confidence: float


@dataclass(frozen=True, slots=True)
class GridStretch:
    """The same in frames of one phase, `end` exclusive."""

    first_frame: int
    end_frame: int
    phase: int
    shift: int  # of the message, as in `windows.HIT`
    key: int
    confidence: float


def join(found: Hits, readings: Readings, symbols: Sequence[Indices]) -> Pieces[list[GridStretch]]:
    """Joins windows into stretches, in the order of their beginnings.

    readings: (PHASES, frames, MESSAGE_DIM). symbols: as for `windows.hits`.
    """
    evidence, trimmed = _Evidence(readings, symbols), found.copy()
    for start in range(0, len(found), _TRIMMED_AT_ONCE):
        yield
        _trim(trimmed[start : start + _TRIMMED_AT_ONCE], evidence)
    trimmed = trimmed[np.lexsort((trimmed["end_frame"], trimmed["first_frame"]))]
    groups: list[_Group] = []
    live: list[_Group] = []
    for start in range(0, len(trimmed), _GROUPED_AT_ONCE):
        yield
        _group(trimmed[start : start + _GROUPED_AT_ONCE], start, groups, live)
    stretches: list[GridStretch] = []
    for number, group in enumerate(groups):
        if number % _JOINED_AT_ONCE == 0:
            yield
        stretches.append(_joined(trimmed[group.members], readings, symbols))
    return (yield from _separated(sorted(stretches, key=lambda stretch: stretch.first_frame), evidence))


class _Evidence:
    """What the readings of a frame say for the mark of a key."""

    def __init__(self, readings: Readings, symbols: Sequence[Indices]) -> None:
        self._readings = readings
        self._audible = readings.any(axis=2)
        self._messages = np.array([[*(1 + of_key), END_MARK] for of_key in symbols], np.int64)

    def total(
        self, frames: Indices, phases: Indices | int, shifts: Indices | int, keys: Indices | int
    ) -> npt.NDArray[np.float64]:
        """Cumulative evidence, from 0 on: (..., frames + 1). frames: consecutive along the last axis."""
        expected = self._messages[keys, (frames - shifts) % PERIOD]
        above_chance = self._readings[phases, frames, expected] - np.log(0.25)
        evidence = np.where(self._audible[phases, frames], above_chance.clip(*_EVIDENCE), _SILENCE)
        total = np.zeros((*evidence.shape[:-1], evidence.shape[-1] + 1))
        np.cumsum(evidence, axis=-1, out=total[..., 1:])
        return total

    def of_stretch(self, stretch: GridStretch, first: int, end: int) -> npt.NDArray[np.float64]:
        """The same for frames first to end, of the key and course of a stretch."""
        return self.total(np.arange(first, end), stretch.phase, stretch.shift, stretch.key)


def _trim(found: Hits, evidence: _Evidence) -> None:
    """To the run of frames within each window with most evidence for its key. A long window may exceed a short stretch.

    In place.
    """
    firsts, lengths = found["first_frame"][:, None], (found["end_frame"] - found["first_frame"])[:, None]
    place = np.arange(lengths.max() + 1)
    frames = firsts + np.minimum(place[:-1], lengths - 1)  # those beyond the window's end do not count
    total = evidence.total(frames, *(found[name][:, None] for name in ("phase", "shift", "key")))
    gains = total - np.minimum.accumulate(total, axis=1)
    ends = np.where(place <= lengths, gains, -1.0).argmax(axis=1)
    starts = np.where(place <= ends[:, None], total, np.inf).argmin(axis=1)
    found["first_frame"], found["end_frame"] = firsts[:, 0] + starts, firsts[:, 0] + ends


@dataclass(slots=True)
class _Group:
    """Windows of one stretch."""

    key: int
    place: int  # of the last window, as in `_group`
    members: list[int] = field(default_factory=list)  # indices into the sorted windows
    ends: deque[int] = field(default_factory=lambda: deque(maxlen=_RECENT))  # of the last windows

    def add(self, index: int, end_frame: int, place: int) -> None:
        self.place = place
        self.members.append(index)
        self.ends.append(end_frame)

    def may_reach(self, first_frame: int) -> bool:
        """Whether a window that begins there, or later ones, could continue the stretch."""
        return first_frame - max(self.ends) <= MAX_GAP_PERIODS * PERIOD


def _group(found: Hits, start: int, groups: list[_Group], live: list[_Group]) -> None:
    """Adds windows to the newest group that each continues, or to a new one.

    found: the next ones in the order of their beginnings; the first has the index `start`. live: the groups that may
    still grow, in the order of `groups`.
    """
    places = found["shift"] * PHASES + found["phase"]  # where the message begins, on the grid
    columns = (found["first_frame"], found["end_frame"], found["key"], places)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for index, (first_frame, end_frame, key, place) in enumerate(rows, start):
        for group in reversed(live):
            near = (place - group.place + _NEAR) % _COURSE <= 2 * _NEAR
            if near and group.key == key and group.may_reach(first_frame):
                break
        else:
            live[:] = [group for group in live if group.may_reach(first_frame)]
            group = _Group(key, place)
            groups.append(group)
            live.append(group)
        group.add(index, end_frame, place)


def _separated(stretches: Sequence[GridStretch], evidence: _Evidence) -> Pieces[list[GridStretch]]:
    """Cuts overlapping stretches at the border with most evidence for both. A stretch within another stays."""
    separate: list[GridStretch] = []
    for number, stretch in enumerate(stretches):
        if number % _JOINED_AT_ONCE == 0:
            yield
        previous = separate[-1] if separate else None
        if previous is not None and stretch.first_frame < previous.end_frame <= stretch.end_frame + PERIOD:
            first, end = stretch.first_frame, min(previous.end_frame, stretch.end_frame)
            before = evidence.of_stretch(previous, first, end)
            after = evidence.of_stretch(stretch, first, end)
            border = first + int((before + after[-1] - after).argmax())
            separate[-1] = replace(previous, end_frame=border)
            stretch = replace(stretch, first_frame=border)
        separate.append(stretch)
    return [stretch for stretch in separate if stretch.end_frame > stretch.first_frame]


def _joined(group: Hits, readings: Readings, symbols: Sequence[Indices]) -> GridStretch:
    """The symbols are counted along the course of the surest window."""
    best = group[group["log_chance"].argmin()]
    phase, shift, key = int(best["phase"]), int(best["shift"]), int(best["key"])
    start, end = int(group["first_frame"].min()), int(group["end_frame"].max())
    votes = np.zeros((PERIOD, readings.shape[2]), np.float64)
    np.add.at(votes, np.arange(start, end) % PERIOD, readings[phase, start:end])
    places = (shift + np.arange(NUM_SYMBOLS)) % PERIOD
    agreeing = votes[places, 1:].argmax(axis=1) == symbols[key]
    return GridStretch(start, end, phase, shift, key, float(agreeing.mean()))
