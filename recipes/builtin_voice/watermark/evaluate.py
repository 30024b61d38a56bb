"""Judges a SilentCipher folder on held-out audio, through the project's own streaming embedder and its own detector.

    python -m recipes.builtin_voice.watermark.evaluate --json bench/results/watermark_small.json

Every clip is marked with a random key of its own, at the running level that a live stream has, then distorted and
searched for that key alone. The mark is made with the full look-ahead, and for some lines also with the one that a
stream's start has (look_ahead.py). False alarms are counted on pieces of clips without a mark, cut at random, and on
marked clips with another key.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from bench.machine import commit, cpu_name
from bench.report import write_result
from csm_codec.resample import Pcm
from csm_codec.watermark.detect.detector import detect
from csm_codec.watermark.embed.embedder import mark_clip
from csm_codec.watermark.keys.keyring import WatermarkKey
from csm_codec.watermark.keys.payload import PAYLOAD_BYTES, frame_symbols
from csm_codec.watermark.networks.silentcipher import SilentCipher, load_silentcipher
from csm_codec.watermark.stream.level import RunningLevel
from csm_codec.watermark.stream.look_ahead import ADAPTIVE, FULL, LookAhead
from recipes.builtin_voice.speech import SAMPLE_RATE_HZ
from recipes.builtin_voice.watermark.corpus import open_corpus
from recipes.builtin_voice.watermark.distortions import Distortion, beginnings, distortions, piece

SEED = 20
COMPARED = ("none", "noise 25 dB", "Opus 24 kbit/s", "Opus 16 kbit/s", "crop")  # also with an adaptive look-ahead


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    audio: str
    look_ahead: str | None  # None without a mark
    distortion: str
    clips: int
    seconds: float  # mean length of a clip
    found: int
    symbols_right: float  # share of the key's symbols that agree, after the vote over the clip


def random_key(random: np.random.Generator) -> WatermarkKey:
    return WatermarkKey("its own", random.bytes(PAYLOAD_BYTES))


def mark(silentcipher: SilentCipher, pcm: Pcm, key: WatermarkKey, look_ahead: LookAhead = FULL) -> Pcm:
    level = RunningLevel(silentcipher.hparams.n_fft)
    return mark_clip(silentcipher, pcm, SAMPLE_RATE_HZ, frame_symbols(key.payload), level, look_ahead)


def sdr_db(pcm: Pcm, marked: Pcm) -> float:
    distortion = np.sum(np.square(marked - pcm, dtype=np.float64))
    return float(10 * np.log10(np.sum(np.square(pcm, dtype=np.float64)) / distortion))


class Judge:
    """Searches clips for keys and keeps the table."""

    def __init__(self, silentcipher: SilentCipher) -> None:
        self._silentcipher = silentcipher
        self.rows: list[Row] = []

    def look(
        self,
        clips: Sequence[Pcm],
        keys: Sequence[WatermarkKey],
        audio: str,
        name: str,
        distortion: Distortion,
        look_ahead: str | None = "full",
    ) -> None:
        """Adds a row: what is found of each clip's key in the clip, distorted."""
        random = np.random.default_rng(SEED)
        found, samples, confidence = 0, 0.0, 0.0
        for clip, key in zip(clips, keys, strict=True):
            recording = distortion(clip, random)
            detection = detect(self._silentcipher, [key], recording.pcm, recording.sample_rate_hz)
            found += detection.detected
            confidence += detection.confidence
            samples += len(recording.pcm) * SAMPLE_RATE_HZ / recording.sample_rate_hz
        count = len(clips)
        seconds = samples / SAMPLE_RATE_HZ / count
        self.rows.append(Row(audio, look_ahead, name, count, round(seconds, 2), found, round(confidence / count, 4)))
        told = f"{audio:10} {look_ahead or '':9} {name:22} {found:4} of {count:4}  {confidence / count:.3f}"
        print(told, file=sys.stderr, flush=True)


def evaluate(silentcipher: SilentCipher, folder: Path, num_clips: int, num_unmarked: int) -> dict[str, object]:
    """All figures, as they go into the JSON file. folder: where clips are made and kept."""
    random = np.random.default_rng(SEED)
    corpus = open_corpus(folder, "held-out", speech_clips=max(num_clips, num_unmarked), other_clips=num_clips // 3)
    judge = Judge(silentcipher)
    levels: dict[str, list[float]] = {}
    embedding_s = 0.0
    marked_s = 0.0
    mark(silentcipher, corpus.clips["speech"][0], random_key(np.random.default_rng(SEED)))  # compiles, untimed
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
                judge.look(marked, keys, audio, name, distortion)
        if audio == "speech":
            others = [random_key(random) for _ in clips]
            judge.look(marked, others, audio, "none, another key", distortions()["none"])
            compare_look_ahead(judge, silentcipher, clips, marked, keys)
    unmarked = corpus.clips["speech"][:num_unmarked]
    keys = [random_key(random) for _ in unmarked]
    judge.look(unmarked, keys, "speech", "not marked, a piece", piece, look_ahead=None)
    return {
        "rows": [asdict(row) for row in judge.rows],
        "sdr_db": {
            audio: {"mean": round(float(np.mean(values)), 2), "least": round(min(values), 2)}
            for audio, values in levels.items()
        },
        "nominal_sdr_db": silentcipher.hparams.sdr_db,
        "embedding_cpu_s_per_audio_s": round(embedding_s / marked_s, 4),
    }


def compare_look_ahead(
    judge: Judge, silentcipher: SilentCipher, clips: Sequence[Pcm], full: Sequence[Pcm], keys: Sequence[WatermarkKey]
) -> None:
    """The same speech and keys, with the look-ahead that grows from nothing, and the starts of both."""
    adaptive = [mark(silentcipher, clip, key, ADAPTIVE) for clip, key in zip(clips, keys, strict=True)]
    for name, distortion in distortions().items():
        if name in COMPARED:
            judge.look(adaptive, keys, "speech", name, distortion, "adaptive")
    for name, distortion in beginnings().items():
        judge.look(full, keys, "speech", name, distortion, "full")
        judge.look(adaptive, keys, "speech", name, distortion, "adaptive")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--silentcipher", type=Path, default=Path("bundles/builtin/silentcipher"))
    parser.add_argument("--work", type=Path, default=Path("build/builtin_voice/watermark"), help="clips are kept here")
    parser.add_argument("--clips", type=int, default=60, help="for each line of the table")
    parser.add_argument("--unmarked", type=int, default=1000, help="clips to look for false alarms on")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    silentcipher, measured_at = load_silentcipher(arguments.silentcipher), commit()
    figures = evaluate(silentcipher, arguments.work / "clips", arguments.clips, arguments.unmarked)
    write_result({"benchmark": "watermark", "device": cpu_name(), "commit": measured_at, **figures}, arguments.json)


if __name__ == "__main__":
    main()
