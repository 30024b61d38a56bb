"""How well the watermark is detected at each strength: in whole clips, and in turns inside recordings.

    python -m recipes.builtin_voice.evaluation.turns --json bench/results/watermark_turns.json

Clips are held-out sentences of flite, each marked with a key of its own and the look-ahead that the service has, at
each ratio. A clip counts as found by the detector of the whole and, apart from that, by a marked stretch in it. A
recording has five turns of one key at the networks' own ratio, cut at any samples, with other speech, chords and
silence between.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from bench.machine import commit, cpu_name
from bench.report import write_result
from csm_codec.resample import Pcm
from csm_codec.watermark.detect.scanner import Scan, scan
from csm_codec.watermark.detect.stretches import Stretch
from csm_codec.watermark.keys.keyring import WatermarkKey
from csm_codec.watermark.networks.silentcipher import SilentCipher, load_silentcipher
from csm_codec.watermark.stream.look_ahead import ADAPTIVE
from recipes.builtin_voice.speech import SAMPLE_RATE_HZ
from recipes.builtin_voice.watermark.corpus import open_corpus
from recipes.builtin_voice.watermark.distortions import Recording, distortions
from recipes.builtin_voice.watermark.evaluate import mark, random_key, sdr_db
from recipes.builtin_voice.watermark.sounds import chords

SEED = 77
Row = dict[str, object]
COLUMNS = (
    "audio", "ratio_db", "reached_db", "least_db", "distortion", "sought", "found", "stretch_found", "false_stretches",
    "ends_off_mean_s", "ends_off_most_s",
)  # fmt: skip
RATIOS_DB = (30.0, 36.0, 47.0)  # the small networks', csm-1b's, the published hparams'
TURNS = 5
TURN_SECONDS = (2.0, 3.6)
PAUSE_SECONDS = 3.0  # at least, as turns that are at most six messages apart may be one stretch


@dataclass(frozen=True, slots=True)
class Talk:
    """A recording, and where its marked turns are, in seconds."""

    pcm: Pcm
    key: WatermarkKey
    turns: tuple[tuple[float, float], ...]


def clips_found(silentcipher: SilentCipher, clips: Sequence[Pcm], ratio_db: float) -> list[Row]:
    """A row for each distortion of clips that are marked at that ratio."""
    marking = replace(silentcipher, hparams=replace(silentcipher.hparams, sdr_db=ratio_db))
    random = np.random.default_rng(SEED)
    keys = [random_key(random) for _ in clips]
    marked = [mark(marking, clip, key, ADAPTIVE) for clip, key in zip(clips, keys, strict=True)]
    reached_db = [sdr_db(clip, other) for clip, other in zip(clips, marked, strict=True)]
    reached: Row = {"reached_db": round(float(np.mean(reached_db)), 1), "least_db": round(min(reached_db), 1)}
    rows: list[Row] = []
    for name, distortion in distortions().items():
        random = np.random.default_rng(SEED)
        scans = [_scan(silentcipher, key, distortion(clip, random)) for clip, key in zip(marked, keys, strict=True)]
        found = sum(scanned.whole.detected for scanned in scans)
        with_stretch = sum(bool(scanned.stretches) for scanned in scans)
        row: Row = {"audio": "clip", "ratio_db": ratio_db, "distortion": name, "sought": len(clips)}
        rows.append(_told({**row, "found": found, "stretch_found": with_stretch, **reached}))
    return rows


def talk(silentcipher: SilentCipher, clips: Sequence[Pcm], random: np.random.Generator) -> Talk:
    """clips: twice TURNS, in turn to be left unmarked and marked"""
    key, pieces, turns = random_key(random), list[Pcm](), list[tuple[float, float]]()
    for other, said in zip(clips[::2], clips[1::2], strict=True):
        silence = np.zeros(random.integers(1, SAMPLE_RATE_HZ), np.float32)
        pieces += [other[random.integers(len(other)) :], chords(random, PAUSE_SECONDS), silence]
        length = round(random.uniform(*TURN_SECONDS) * SAMPLE_RATE_HZ)
        marked = mark(silentcipher, said, key, ADAPTIVE)
        first = random.integers(max(len(marked) - length, 0) + 1)
        start = sum(map(len, pieces))
        pieces.append(marked[first : first + length])
        turns.append((start / SAMPLE_RATE_HZ, (start + len(pieces[-1])) / SAMPLE_RATE_HZ))
    return Talk(np.concatenate([*pieces, silence]), key, tuple(turns))


def turns_found(silentcipher: SilentCipher, talks: Sequence[Talk]) -> list[Row]:
    """A row for each distortion except crops, which would move the turns."""
    rows: list[Row] = []
    for name, distortion in distortions().items():
        if name.startswith("crop"):
            continue
        random = np.random.default_rng(SEED)
        found, false, off_s = 0, 0, list[float]()
        for recording in talks:
            stretches = list(_scan(silentcipher, recording.key, distortion(recording.pcm, random)).stretches)
            for turn in recording.turns:
                if here := [stretch for stretch in stretches if _overlap(stretch, turn)]:
                    found += 1
                    off_s += [abs(here[0].start_s - turn[0]), abs(here[-1].end_s - turn[1])]
            false += sum(not any(_overlap(stretch, turn) for turn in recording.turns) for stretch in stretches)
        row: Row = {"audio": "turn", "ratio_db": silentcipher.hparams.sdr_db, "distortion": name}
        row |= {"sought": TURNS * len(talks), "stretch_found": found, "false_stretches": false}
        if off_s:
            row |= {"ends_off_mean_s": round(float(np.mean(off_s)), 2), "ends_off_most_s": round(max(off_s), 2)}
        rows.append(_told(row))
    return rows


def _told(row: Row) -> Row:
    """The row with every column."""
    whole = {name: row.get(name) for name in COLUMNS}
    print(whole, file=sys.stderr, flush=True)
    return whole


def _scan(silentcipher: SilentCipher, key: WatermarkKey, heard: Recording) -> Scan:
    return scan(silentcipher, [key], heard.pcm, heard.sample_rate_hz)


def _overlap(stretch: Stretch, turn: tuple[float, float]) -> bool:
    return stretch.start_s < turn[1] and turn[0] < stretch.end_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--silentcipher", type=Path, default=Path("bundles/builtin/silentcipher"))
    parser.add_argument("--work", type=Path, default=Path("build/builtin_voice/watermark"), help="clips are kept here")
    parser.add_argument("--clips", type=int, default=24, help="at each ratio")
    parser.add_argument("--talks", type=int, default=10, help=f"recordings of {TURNS} turns")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    silentcipher, measured_at = load_silentcipher(arguments.silentcipher), commit()
    count = max(arguments.clips, 2 * TURNS * arguments.talks)
    clips = open_corpus(arguments.work / "clips", "held-out", speech_clips=count, other_clips=0).clips["speech"]
    rows = [row for ratio_db in RATIOS_DB for row in clips_found(silentcipher, clips[: arguments.clips], ratio_db)]
    random = np.random.default_rng(SEED)
    said = [clips[first : first + 2 * TURNS] for first in range(0, 2 * TURNS * arguments.talks, 2 * TURNS)]
    rows += turns_found(silentcipher, [talk(silentcipher, some, random) for some in said])
    write_result(
        {"benchmark": "watermark_turns", "device": cpu_name(), "commit": measured_at, "rows": rows}, arguments.json
    )


if __name__ == "__main__":
    main()
