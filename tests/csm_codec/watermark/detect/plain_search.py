"""The search for stretches as plainly as it can be written: one window after the other. Slow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from csm_codec.watermark.detect.evidence import PHASES, WINDOW_PERIODS, Floats, Indices
from csm_codec.watermark.detect.stretches import MAX_GAP_PERIODS, GridStretch
from csm_codec.watermark.keys.payload import NUM_SYMBOLS, PERIOD


@dataclass(frozen=True, slots=True)
class Hit:
    """As windows.HIT."""

    first_frame: int
    end_frame: int
    phase: int
    shift: int
    key: int
    log_chance: float


def log_chances(votes: Floats, symbols: Indices) -> Floats:
    """At every value of t."""
    taken = votes.astype(np.float64)
    taken -= taken.max(axis=2, keepdims=True)
    score = taken[np.arange(len(votes))[:, None], np.arange(NUM_SYMBOLS), symbols].sum(axis=1)
    best = np.zeros(len(votes))
    for slope in np.geomspace(0.02, 40, 48):
        moments = np.log(np.exp(slope * taken).mean(axis=2)).sum(axis=1)
        best = np.minimum(best, moments - slope * score)
    return best.astype(np.float32)


def hits(readings: Floats, phase: int, symbols: Sequence[Indices], log_limit: float) -> list[Hit]:
    num_periods = -(-len(readings) // PERIOD)
    padded = np.pad(readings, ((0, num_periods * PERIOD - len(readings)), (0, 0)))
    periods = padded.reshape(num_periods, PERIOD, -1)[:, :, 1:]
    sums = np.concatenate((np.zeros_like(periods[:1], np.float64), np.cumsum(periods, axis=0, dtype=np.float64)))
    of_keys = np.array(symbols, np.int64)
    found: list[Hit] = []
    for length in sorted({min(length, num_periods) for length in WINDOW_PERIODS}):
        votes = (sums[length:] - sums[:-length]).astype(np.float32)
        heard = np.where(np.ptp(votes, axis=2) > 0, votes.argmax(axis=2), -1)
        for shift in range(PERIOD):
            places = (shift + np.arange(NUM_SYMBOLS)) % PERIOD
            firsts, keys = np.nonzero((heard[:, places][:, None] == of_keys).sum(axis=2) >= 12)
            chances = log_chances(votes[firsts][:, places], of_keys[keys])
            for first, key, chance in zip(firsts.tolist(), keys.tolist(), chances.tolist(), strict=True):
                if chance <= log_limit:
                    end = min((first + length) * PERIOD, len(readings))
                    found.append(Hit(first * PERIOD, end, phase, shift, key, chance))
    return found


def join(found: Sequence[Hit], readings: Floats, symbols: Sequence[Indices]) -> list[GridStretch]:
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
    total = _total_evidence(hit, hit.first_frame, hit.end_frame, readings, symbols)
    end = int((total - np.minimum.accumulate(total)).argmax())
    start = int(total[: end + 1].argmin())
    return replace(hit, first_frame=hit.first_frame + start, end_frame=hit.first_frame + end)


def _total_evidence(
    of: Hit | GridStretch, first: int, end: int, readings: Floats, symbols: Sequence[Indices]
) -> np.ndarray:
    frames = np.arange(first, end)
    expected = np.concatenate((1 + symbols[of.key], [0]))[(frames - of.shift) % PERIOD]
    read = readings[of.phase, frames]
    above_chance = read[np.arange(len(frames)), expected] - np.log(0.25)
    evidence = np.where(read.any(axis=1), above_chance.clip(-1.0, 0.8), -0.05)
    return np.concatenate(([0.0], np.cumsum(evidence)))


def _continues(group: list[Hit], hit: Hit) -> bool:
    end_frame = max(other.end_frame for other in group[-64:])
    apart = (hit.shift * PHASES + hit.phase) - (group[-1].shift * PHASES + group[-1].phase)
    near = (apart + PHASES // 2) % (PERIOD * PHASES) <= PHASES
    return group[-1].key == hit.key and near and hit.first_frame - end_frame <= MAX_GAP_PERIODS * PERIOD


def _joined(group: list[Hit], readings: Floats, symbols: Sequence[Indices]) -> GridStretch:
    best = min(group, key=lambda hit: hit.log_chance)
    start, end = min(hit.first_frame for hit in group), max(hit.end_frame for hit in group)
    votes = np.zeros((PERIOD, readings.shape[2]), np.float64)
    frames = np.arange(start, end)
    np.add.at(votes, frames % PERIOD, readings[best.phase, frames])
    places = (best.shift + np.arange(NUM_SYMBOLS)) % PERIOD
    agreeing = votes[places, 1:].argmax(axis=1) == symbols[best.key]
    return GridStretch(start, end, best.phase, best.shift, best.key, float(agreeing.mean()))


def _separated(stretches: Sequence[GridStretch], readings: Floats, symbols: Sequence[Indices]) -> list[GridStretch]:
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
