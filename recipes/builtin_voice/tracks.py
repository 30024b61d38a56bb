"""Flite's tracks of many texts, made once and kept in one file: what the codec is trained on.

    python -m recipes.builtin_voice.tracks build/voice/tracks-train.npz build/voice/texts-train.txt --texts 5000

Every text is said by every voice. About 160 times as fast as it is spoken, on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from recipes.builtin_voice.flite import Utterance
from recipes.builtin_voice.speaking import phones_of, speak
from recipes.builtin_voice.vocoder import Frames, frames_of


@dataclass(frozen=True)
class Tracks:
    """U utterances, their frames one after another. `voices` are indices into VOICES."""

    texts: list[str]
    voices: npt.NDArray[np.int64]  # (U,)
    starts: npt.NDArray[np.int64]  # (U + 1,) where the frames of each begin
    frames: Frames
    phones: npt.NDArray[np.int64]  # (frames, PARTS) what is being said, an index into phone_names
    phone_names: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def of(self, index: int) -> Frames:
        rows = slice(self.starts[index], self.starts[index + 1])
        frames = self.frames
        return Frames(frames.cepstra[rows], frames.strengths[rows], frames.pulses[rows], frames.glide[rows])


def read_tracks(path: Path) -> Tracks:
    with np.load(path) as file:
        frames = Frames(
            file["cepstra"].astype(np.float32), file["strengths"].astype(np.float32), file["pulses"], file["glide"]
        )
        return Tracks(
            texts=file["texts"].tolist(),
            voices=file["voices"],
            starts=file["starts"],
            frames=frames,
            phones=file["phones"].astype(np.int64),
            phone_names=file["phone_names"].tolist(),
        )


def write_tracks(path: Path, spoken: Iterator[tuple[str, int, Utterance]]) -> None:
    """spoken: text, voice, utterance."""
    said, voices, frames, phones, names = [], [], [], [], ["pau"]
    for text, voice, utterance in spoken:
        made = frames_of(utterance)
        said.append(text)
        voices.append(voice)
        frames.append(made)
        names += sorted({phone.name for phone in utterance.phones} - set(names))
        phones.append(phones_of(utterance, len(made), names))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new.npz")
    np.savez(
        draft,
        texts=np.array(said),
        voices=np.array(voices),
        starts=np.cumsum([0] + [len(made) for made in frames]),
        cepstra=np.concatenate([made.cepstra for made in frames]).astype(np.float16),
        strengths=np.concatenate([made.strengths for made in frames]).astype(np.float16),
        pulses=np.concatenate([made.pulses for made in frames]),
        glide=np.concatenate([made.glide for made in frames]),
        phones=np.concatenate(phones).astype(np.uint8),
        phone_names=np.array(names),
    )
    draft.rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("source", type=Path, help="a text a line (texts.py)")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--texts", type=int, default=5000)
    arguments = parser.parse_args()
    if arguments.path.exists():
        print(f"{arguments.path} is there already")
        return
    chosen = arguments.source.read_text().splitlines()[arguments.first : arguments.first + arguments.texts]
    write_tracks(arguments.path, speak(tqdm(chosen, unit="text")))


if __name__ == "__main__":
    main()
