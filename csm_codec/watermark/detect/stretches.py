"""Marked stretches: windows of one key and one course of the message, joined, with their ends. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from csm_codec.watermark.detect.evidence import PHASES, Floats, Indices
from csm_codec.watermark.detect.windows import Hit
from csm_codec.watermark.keys.payload import NUM_SYMBOLS, PERIOD

MAX_GAP_PERIODS = 6  # without a hit, within one stretch: a pause of the speaker, or a bad line
_COURSE = PERIOD * PHASES  # places of a message on the grid
_NEAR = PHASES // 2  # places by which two windows of one course may differ: clocks drift, phases are a grid
_RECENT = 64  # windows of a stretch among which the last end is looked for
_SILENCE = -0.05  # likewise of a silent frame, which could carry nothing
_EVIDENCE = (-1.0, 0.8)  # for the mark, of one frame: a stretch grows where at least 56 % of the frames are read right


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
    shift: int  # of the message, as in `windows.Hit`
    key: int
    confidence: float


def join(found: Sequence[Hit], readings: Floats, symbols: Sequence[Indices]) -> list[GridStretch]:
    """Joins windows into stretches, in the order of their beginnings.

    readings: (PHASES, frames, MESSAGE_DIM). symbols: as for `windows.hits`.
    """
    groups: list[list[Hit]] = []
    trimmed = [_trimmed(hit, readings, symbols) for hit in found]
    for hit in sorted(trimmed, key=lambda hit: (hit.first_frame, hit.end_frame)):
        group = next((group for group in reversed(groups) if _continues(group, hit)), None)
        if group is None:
            groups.append([hit])
        else:
            group.append(hit)
    stretches = [_joined(group, readings, symbols) for group in groups]
    return _separated(sorted(stretches, key=lambda stretch: stretch.first_frame), readings, symbols)


def _trimmed(hit: Hit, readings: Floats, symbols: Sequence[Indices]) -> Hit:
    """The run of frames within a window with most evidence for its key. A long window may exceed a short stretch."""
    total = _total_evidence(hit, hit.first_frame, hit.end_frame, readings, symbols)
    gains = total - np.minimum.accumulate(total)
    end = int(gains.argmax())
    start = int(total[: end + 1].argmin())
    return replace(hit, first_frame=hit.first_frame + start, end_frame=hit.first_frame + end)


def _total_evidence(
    of: Hit | GridStretch, first: int, end: int, readings: Floats, symbols: Sequence[Indices]
) -> Floats:
    """Cumulative evidence of frames first to end for the mark of a window or stretch: (end - first + 1,), from 0 on."""
    frames = np.arange(first, end)
    expected = np.concatenate((1 + symbols[of.key], [0]))[(frames - of.shift) % PERIOD]
    read = readings[of.phase, frames]
    above_chance = read[np.arange(len(frames)), expected] - np.log(0.25)
    evidence = np.where(read.any(axis=1), above_chance.clip(*_EVIDENCE), _SILENCE)
    return np.concatenate(([0.0], np.cumsum(evidence)))


def _separated(stretches: Sequence[GridStretch], readings: Floats, symbols: Sequence[Indices]) -> list[GridStretch]:
    """Cuts overlapping stretches at the border with most evidence for both. A stretch within another stays."""
    separate: list[GridStretch] = []
    for stretch in stretches:
        previous = separate[-1] if separate else None
        if previous is not None and stretch.first_frame < previous.end_frame <= stretch.end_frame + PERIOD:
            first, end = stretch.first_frame, min(previous.end_frame, stretch.end_frame)
            before = _total_evidence(previous, first, end, readings, symbols)
            after = _total_evidence(stretch, first, end, readings, symbols)
            border = first + int((before + after[-1] - after).argmax())
            separate[-1] = replace(previous, end_frame=border)
            stretch = replace(stretch, first_frame=border)
        separate.append(stretch)
    return [stretch for stretch in separate if stretch.end_frame > stretch.first_frame]


def _continues(group: list[Hit], hit: Hit) -> bool:
    end_frame = max(other.end_frame for other in group[-_RECENT:])
    near = (_place(hit) - _place(group[-1]) + _NEAR) % _COURSE <= 2 * _NEAR
    return group[-1].key == hit.key and near and hit.first_frame - end_frame <= MAX_GAP_PERIODS * PERIOD


def _place(hit: Hit) -> int:
    """Where the message begins, on the grid, within one course."""
    return (hit.shift * PHASES + hit.phase) % _COURSE


def _joined(group: list[Hit], readings: Floats, symbols: Sequence[Indices]) -> GridStretch:
    """The symbols are counted along the course of the surest window."""
    best = min(group, key=lambda hit: hit.log_chance)
    start, end = min(hit.first_frame for hit in group), max(hit.end_frame for hit in group)
    votes = np.zeros((PERIOD, readings.shape[2]), np.float64)
    frames = np.arange(start, end)
    np.add.at(votes, frames % PERIOD, readings[best.phase, frames])
    places = (best.shift + np.arange(NUM_SYMBOLS)) % PERIOD
    agreeing = votes[places, 1:].argmax(axis=1) == symbols[best.key]
    return GridStretch(start, end, best.phase, best.shift, best.key, float(agreeing.mean()))
