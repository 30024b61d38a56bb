"""Compares message decoders on held-out sayings of the voice, to choose by; the evaluation's texts are not among them.

    python -m recipes.builtin_voice.watermark.development bundles/builtin/silentcipher build/.../silentcipher

Every folder must have the first one's embedder, which makes the marks. Of each clip the first three seconds are kept,
or with a crop those from a random place, as in the evaluation (recipes/builtin_voice/evaluation/mark.py).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from csm_codec.watermark.networks.silentcipher import load_silentcipher
from csm_codec.watermark.stream.look_ahead import ADAPTIVE
from recipes.builtin_voice.evaluation.mark import in_three_seconds
from recipes.builtin_voice.watermark.corpus import Corpus
from recipes.builtin_voice.watermark.distortions import Distortion, Recording, distortions, noisy
from recipes.builtin_voice.watermark.evaluate import Judge, mark, random_key
from recipes.builtin_voice.watermark.sayings import open_sayings

SEED = 57
CHOSEN = ("noise 25 dB", "none", "Opus 16 kbit/s", "8 kHz, mu-law", "crop")
WORSE_DB = 22.0


def compare(folders: Sequence[Path], corpus: Corpus, most_clips: int) -> dict[str, list[dict[str, object]]]:
    """The rows of each folder. corpus: of one kind for each speaker."""
    conditions: dict[str, Distortion] = {name: distortions()[name] for name in CHOSEN}
    conditions[f"noise {WORSE_DB:g} dB"] = lambda pcm, random: Recording(noisy(pcm, WORSE_DB, random))
    embedder, rows = load_silentcipher(folders[0]), {}
    random = np.random.default_rng(SEED)
    sets = []
    for kind, clips in corpus.clips.items():
        keys = [random_key(random) for _ in clips[:most_clips]]
        marked = [mark(embedder, clip, key, ADAPTIVE) for clip, key in zip(clips[:most_clips], keys, strict=True)]
        sets.append((kind, keys, marked))
    for folder in folders:
        judge = Judge(load_silentcipher(folder))
        print(folder, flush=True)
        for kind, keys, marked in sets:
            for title, distortion in conditions.items():
                judge.look(marked, keys, kind, title, in_three_seconds(title, distortion), "adaptive")
        rows[str(folder)] = [asdict(row) for row in judge.rows]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="of SilentCipher")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/builtin"), help="whose voice says the clips")
    parser.add_argument("--work", type=Path, default=Path("build/builtin_voice/watermark"), help="clips are kept here")
    parser.add_argument("--texts", type=int, default=260, help="of each speaker")
    parser.add_argument("--clips", type=int, default=200, help="of each speaker, at most")
    parser.add_argument("--speakers", default="slt,rms")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    said = open_sayings(
        arguments.work / "clips", arguments.bundle, "held-out", voice_texts=arguments.texts, vocoder_texts=20
    )
    kinds = [f"{name}'s voice" for name in arguments.speakers.split(",")]
    rows = compare(arguments.folders, Corpus({kind: said.clips[kind] for kind in kinds}), arguments.clips)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
