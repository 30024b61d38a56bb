"""Trains the message decoder alone, from that of a folder; run again with the same --out, it goes on.

    python -m recipes.builtin_voice.watermark.train_reader --steps 1000

It reads clips that are marked as the service marks them, mostly of the bundle's own voice saying training texts,
distorted, with white noise more often than anything else (reader.py). The result is a folder of SilentCipher whose
embedder is that of the start, byte by byte.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import torch

from recipes.builtin_voice.watermark.corpus import Corpus, open_corpus
from recipes.builtin_voice.watermark.reader import ReaderTrainer
from recipes.builtin_voice.watermark.sayings import open_sayings

SAVED_EVERY = 200  # steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/builtin"), help="whose voice says the clips")
    parser.add_argument("--start", type=Path, help="folder of SilentCipher; that of the bundle by default")
    parser.add_argument("--out", type=Path, default=Path("build/builtin_voice/watermark_reader"))
    parser.add_argument("--clips", type=Path, default=Path("build/builtin_voice/watermark/clips"), help="kept there")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the products")
    parser.add_argument("--voice-texts", type=int, default=320, help="of each speaker")
    parser.add_argument("--vocoder-texts", type=int, default=80, help="of each speaker")
    parser.add_argument("--speech-clips", type=int, default=240)
    parser.add_argument("--other-clips", type=int, default=40, help="of each kind")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    said = open_sayings(
        arguments.clips,
        arguments.bundle,
        "train",
        voice_texts=arguments.voice_texts,
        vocoder_texts=arguments.vocoder_texts,
    )
    others = open_corpus(
        arguments.clips, "train", speech_clips=arguments.speech_clips, other_clips=arguments.other_clips
    )
    trainer = ReaderTrainer(
        arguments.out,
        arguments.start or arguments.bundle / "silentcipher",
        Corpus(said.clips | others.clips),
        steps=arguments.steps,
        seed=arguments.seed,
        dtype=getattr(torch, arguments.dtype),
    )
    with (arguments.out / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        while not trainer.done:
            figures = trainer.train_step()
            log.writerow([trainer.step, *(f"{figure:.4f}" for figure in figures.values())])
            if trainer.step % 20 == 0:
                file.flush()
                text = "  ".join(f"{name} {figure:.3f}" for name, figure in figures.items())
                print(f"step {trainer.step}  {text}", file=sys.stderr, flush=True)
            if trainer.step % SAVED_EVERY == 0:
                trainer.save()
    trainer.save()


if __name__ == "__main__":
    main()
