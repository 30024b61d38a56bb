"""Searches hours of unmarked audio for marked stretches, of random keys: none may be found.

    python -m recipes.builtin_voice.watermark.false_alarms --hours 10 --json bench/results/watermark_false_alarms.json

The audio is joined from parts of 5 to 40 s: speech of flite's voices, noises, chords, tones and sweeps, speech over
chords, silence. A run may be cut into several: each adds its hours to the file, with a seed that the file has not had.
The rate by calculation (csm_codec/watermark/detect/evidence.py) is far below what ten hours can show; this run shows
that the calculation is not contradicted, and how fast the search is.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from bench.machine import commit, cpu_name
from bench.report import write_result
from csm_codec.resample import Pcm
from csm_codec.watermark.detect.evidence import MAX_FALSE_ALARMS_PER_HOUR
from csm_codec.watermark.detect.scanner import Scanner
from csm_codec.watermark.keys.keyring import WatermarkKey
from csm_codec.watermark.keys.payload import PAYLOAD_BYTES
from csm_codec.watermark.networks.silentcipher import SilentCipher, load_silentcipher
from recipes.builtin_voice.speech import SAMPLE_RATE_HZ, speak
from recipes.builtin_voice.texts import texts
from recipes.builtin_voice.watermark.sounds import LOUDNESS, chords, coloured_noise

NUM_KEYS = 8  # random ones in each run; more keys are more tries
SPEAKERS = ("slt", "rms", "awb", "kal16")
RECORDING_SECONDS = 1800.0


def unmarked(random: np.random.Generator, seconds: float) -> Iterator[Pcm]:
    """Parts of a recording, until that much has come."""
    sentences = texts("held-out", int(random.integers(2**31)))
    made = 0.0
    while made < seconds:
        length = float(random.uniform(5, 40))
        kind = random.choice(("speech", "noise", "chords", "tones", "mixture", "silence"), p=_SHARES)
        part = _part(str(kind), random, length, sentences)
        made += len(part) / SAMPLE_RATE_HZ
        yield part


_SHARES = (0.4, 0.15, 0.15, 0.1, 0.15, 0.05)


def _part(kind: str, random: np.random.Generator, seconds: float, sentences: Iterator[str]) -> Pcm:
    count = round(seconds * SAMPLE_RATE_HZ)
    match kind:
        case "speech":
            return _speech(random, count, sentences)
        case "noise":
            return coloured_noise(random, seconds)
        case "chords":
            return _music(random, count)
        case "tones":
            return _tones(random, count)
        case "mixture":
            return (_speech(random, count, sentences) + 0.5 * _music(random, count)).astype(np.float32)
        case _:
            return np.zeros(count, np.float32)


def _speech(random: np.random.Generator, count: int, sentences: Iterator[str]) -> Pcm:
    """Sentences of one voice, a few at a time, with pauses."""
    voice, pieces, made = str(random.choice(SPEAKERS)), [], 0
    while made < count:
        pieces.append(speak(" ".join(next(sentences) for _ in range(5)), voice))
        pieces.append(np.zeros(int(random.integers(SAMPLE_RATE_HZ)), np.float32))
        made += len(pieces[-1]) + len(pieces[-2])
    return np.concatenate(pieces)[:count] * np.float32(random.uniform(0.2, 1.5))


def _music(random: np.random.Generator, count: int) -> Pcm:
    """Chords, in pieces of four seconds: their cost grows with the square of the length."""
    pieces = [chords(random, 4.0) for _ in range(-(-count // (4 * SAMPLE_RATE_HZ)))]
    return np.concatenate(pieces)[:count]


def _tones(random: np.random.Generator, count: int) -> Pcm:
    """Steady tones and slow sweeps: the decoder reads the same symbols again and again."""
    time_s = np.arange(count) / SAMPLE_RATE_HZ
    sound = np.zeros(count)
    for _ in range(int(random.integers(1, 6))):
        low_hz, high_hz = random.uniform(50, 6000, 2) if random.random() < 0.5 else [random.uniform(50, 6000)] * 2
        sound += np.sin(2 * np.pi * (low_hz * time_s + (high_hz - low_hz) * time_s**2 / (2 * time_s[-1])))
    return (sound * LOUDNESS / np.sqrt(np.mean(sound**2))).astype(np.float32)


def search(silentcipher: SilentCipher, seed: int, hours: float) -> dict[str, object]:
    """Figures of one run: hours searched, what was found, and how fast."""
    random = np.random.default_rng(seed)
    keys = [WatermarkKey(f"key-{number}", random.bytes(PAYLOAD_BYTES)) for number in range(NUM_KEYS)]
    left_s, audio_s, search_s, whole = hours * 3600, 0.0, 0.0, 0
    found: list[str] = []
    while left_s > 1:
        scanner = Scanner(silentcipher, keys, SAMPLE_RATE_HZ)
        for part in unmarked(random, min(left_s, RECORDING_SECONDS)):
            began = time.process_time()
            scanner.push(part)
            search_s += time.process_time() - began
            audio_s += len(part) / SAMPLE_RATE_HZ
            left_s -= len(part) / SAMPLE_RATE_HZ
        began = time.process_time()
        scan = scanner.finish()
        search_s += time.process_time() - began
        found += [f"{stretch.key_id} {stretch.start_s:.1f}-{stretch.end_s:.1f} s" for stretch in scan.stretches]
        whole += scan.whole.detected
    return {
        "seed": seed,
        "hours": round(audio_s / 3600, 3),
        "keys": NUM_KEYS,
        "stretches": len(found),
        "found": "; ".join(found),
        "recordings_detected": whole,
        "times_real_time": round(audio_s / search_s, 1),
        "largest_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "commit": commit(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--silentcipher", type=Path, default=Path("bundles/builtin/silentcipher"))
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="results; runs that it holds already stay")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = search(load_silentcipher(arguments.silentcipher), arguments.seed, arguments.hours)
    runs: list[dict[str, object]] = []
    if arguments.json is not None and arguments.json.exists():
        runs = [run for run in json.loads(arguments.json.read_text())["rows"] if run["seed"] != arguments.seed]
    runs.append(run)
    result = {
        "benchmark": "watermark_false_alarms",
        "device": cpu_name(),
        "commit": run["commit"],
        "hours": round(sum(float(str(run["hours"])) for run in runs), 3),
        "stretches": sum(int(str(run["stretches"])) for run in runs),
        "stretches_per_hour_by_calculation": MAX_FALSE_ALARMS_PER_HOUR,
        "rows": runs,
    }
    write_result(result, arguments.json)


if __name__ == "__main__":
    main()
