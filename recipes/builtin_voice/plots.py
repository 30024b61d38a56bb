"""Pictures of a training: the losses, and one held-out sentence at every stage of the way as a spectrogram.

python -m recipes.builtin_voice.plots build/voice --bundle bundles/builtin --out build/voice/plots
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np

from csm_codec.resample import Pcm, resample
from csm_engine.types import Segment
from recipes.builtin_voice import flite
from recipes.builtin_voice.evaluation.voice import Voice
from recipes.builtin_voice.vocoder import SAMPLE_RATE_HZ, frames_of, synthesize

matplotlib.use("agg")
from matplotlib import pyplot as plt  # noqa: E402

SENTENCE = "My name is Peter, and I have lived in Oslo for nine years."
PARTS = {
    "decoder": ("samples", "spectra"),
    "encoder": ("loss",),
    "csm": ("codebook0", "depth", "phones"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the logs of the training are")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/builtin"))
    parser.add_argument("--out", type=Path, default=Path("build/voice/plots"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    plot_losses(arguments.folder, arguments.out / "losses.png")
    plot_spectrograms(stages(Voice(arguments.bundle)), arguments.out / "spectrograms.png")


def plot_losses(folder: Path, path: Path) -> None:
    figure, axes = plt.subplots(1, len(PARTS), figsize=(15, 4))
    for axis, (part, names) in zip(axes, PARTS.items(), strict=True):
        log = folder / f"{part}.jsonl"
        rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        for name in names:
            for split, style in (("train", "-"), ("held-out", "o")):
                points = [(r["steps"], r[name]) for r in rows if name in r and r.get("split", "train") == split]
                if points:
                    axis.plot(*zip(*points, strict=True), style, markersize=3, label=f"{name}, {split}")
        axis.set(title=part, xlabel="steps", yscale="log")
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def stages(voice: Voice) -> dict[str, Pcm]:
    """The sentence as flite says it, as the vocoder does, through the codec, and as the voice says it."""
    said = flite.utter(SENTENCE, flite.VOICES[0])
    vocoded = synthesize(frames_of(said))
    return {
        "flite": resample(said.pcm, flite.SAMPLE_RATE_HZ, SAMPLE_RATE_HZ),
        "the locked vocoder": vocoded,
        "vocoder through the codec": voice.decode(voice.encode(vocoded, SAMPLE_RATE_HZ)),
        "the built-in voice": voice.say([[Segment(0, SENTENCE)]], first_seed=1)[0].pcm,
    }


def plot_spectrograms(clips: Mapping[str, Pcm], path: Path) -> None:
    figure, axes = plt.subplots(len(clips), 1, figsize=(12, 3 * len(clips)), sharex=True)
    for axis, (name, pcm) in zip(axes, clips.items(), strict=True):
        level = np.abs(pcm).max()
        axis.specgram(pcm / level + 1e-9, NFFT=512, Fs=SAMPLE_RATE_HZ, noverlap=384, vmin=-120, vmax=-40, cmap="magma")
        axis.set(title=name, ylim=(0, 8000), ylabel="Hz")
    axes[-1].set_xlabel("s")
    figure.tight_layout()
    figure.savefig(path, dpi=70)


if __name__ == "__main__":
    main()
