"""Judges a SilentCipher folder on held-out audio, through the project's own streaming embedder and its own detector.

    python -m recipes.voice_in_the_box.watermark.evaluate --json bench/results/watermark_small.json

Every clip is marked with a random key of its own, at the running level that a live stream has, then distorted and
searched for that key alone. False alarms are counted on clips without a mark, and on marked clips with another key.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from csm_engine.codec.resample import Pcm
from csm_engine.codec.watermark.detector import detect
from csm_engine.codec.watermark.keyring import WatermarkKey
from csm_engine.codec.watermark.level import RunningLevel
from csm_engine.codec.watermark.marker import mark_clip
from csm_engine.codec.watermark.payload import PAYLOAD_BYTES, frame_symbols
from csm_engine.codec.watermark.silentcipher import SilentCipher, load_silentcipher
from recipes.voice_in_the_box.speech import SAMPLE_RATE_HZ
from recipes.voice_in_the_box.watermark.corpus import open_corpus
from recipes.voice_in_the_box.watermark.distortions import Distortion, distortions

SEED = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    audio: str
    distortion: str
    clips: int
    seconds: float  # mean length of a clip
    found: int
    symbols_right: float  # share of the key's symbols that agree, after the vote over the clip


def random_key(random: np.random.Generator) -> WatermarkKey:
    return WatermarkKey("its own", random.bytes(PAYLOAD_BYTES))


def mark(silentcipher: SilentCipher, pcm: Pcm, key: WatermarkKey) -> Pcm:
    level = RunningLevel(silentcipher.hparams.n_fft)
    return mark_clip(silentcipher, pcm, SAMPLE_RATE_HZ, frame_symbols(key.payload), level)


def sdr_db(pcm: Pcm, marked: Pcm) -> float:
    distortion = np.sum(np.square(marked - pcm, dtype=np.float64))
    return float(10 * np.log10(np.sum(np.square(pcm, dtype=np.float64)) / distortion))


def judge(
    silentcipher: SilentCipher,
    clips: Sequence[Pcm],
    keys: Sequence[WatermarkKey],
    audio: str,
    name: str,
    distortion: Distortion,
) -> Row:
    random = np.random.default_rng(SEED)
    found, confidence = 0, 0.0
    for clip, key in zip(clips, keys, strict=True):
        recording = distortion(clip, random)
        detection = detect(silentcipher, [key], recording.pcm, recording.sample_rate_hz)
        found += detection.detected
        confidence += detection.confidence
    seconds = sum(map(len, clips)) / SAMPLE_RATE_HZ / len(clips)
    row = Row(audio, name, len(clips), round(seconds, 2), found, round(confidence / len(clips), 4))
    print(f"{audio:10} {name:22} {found:4} of {len(clips):4}  {row.symbols_right:.3f}", file=sys.stderr, flush=True)
    return row


def evaluate(silentcipher: SilentCipher, folder: Path, num_clips: int, num_unmarked: int) -> dict[str, object]:
    """All figures, as they go into the JSON file. folder: where clips are made and kept."""
    random = np.random.default_rng(SEED)
    corpus = open_corpus(folder, "held-out", speech_clips=max(num_clips, num_unmarked), other_clips=num_clips // 3)
    rows: list[Row] = []
    levels: dict[str, list[float]] = {}
    embedding_s = 0.0
    marked_s = 0.0
    for audio, clips in corpus.clips.items():
        clips = clips[:num_clips]
        keys = [random_key(random) for _ in clips]
        began = time.process_time()
        marked = [mark(silentcipher, clip, key) for clip, key in zip(clips, keys, strict=True)]
        embedding_s += time.process_time() - began
        marked_s += sum(map(len, clips)) / SAMPLE_RATE_HZ
        levels[audio] = [sdr_db(clip, other) for clip, other in zip(clips, marked, strict=True)]
        for name, distortion in distortions().items():
            if audio == "speech" or name in ("none", "Opus 24 kbit/s"):
                rows.append(judge(silentcipher, marked, keys, audio, name, distortion))
        if audio == "speech":
            others = [random_key(random) for _ in clips]
            rows.append(judge(silentcipher, marked, others, audio, "none, another key", distortions()["none"]))
    unmarked = corpus.clips["speech"][:num_unmarked]
    keys = [random_key(random) for _ in unmarked]
    rows.append(judge(silentcipher, unmarked, keys, "speech", "not marked", distortions()["none"]))
    return {
        "rows": [asdict(row) for row in rows],
        "sdr_db": {
            audio: {"mean": round(float(np.mean(values)), 2), "least": round(min(values), 2)}
            for audio, values in levels.items()
        },
        "nominal_sdr_db": silentcipher.hparams.sdr_db,
        "embedding_cpu_s_per_audio_s": round(embedding_s / marked_s, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--silentcipher", type=Path, default=Path("bundles/builtin/silentcipher"))
    parser.add_argument(
        "--work", type=Path, default=Path("build/voice_in_the_box/watermark"), help="clips are kept here"
    )
    parser.add_argument("--clips", type=int, default=60, help="for each line of the table")
    parser.add_argument("--unmarked", type=int, default=300, help="clips to look for false alarms on")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    silentcipher = load_silentcipher(arguments.silentcipher)
    figures = evaluate(silentcipher, arguments.work / "clips", arguments.clips, arguments.unmarked)
    result = {"benchmark": "watermark", "device": _processor(), "commit": _commit(), **figures}
    text = json.dumps(result, indent=1)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(text + "\n")
    print(json.dumps(result))


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))


def _commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()


if __name__ == "__main__":
    main()
