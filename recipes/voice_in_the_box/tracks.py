"""Flite's tracks of many texts, made once and kept in one file: what the codec and the CSM are trained on.

    python -m recipes.voice_in_the_box.tracks build/voice/tracks-train.npz --split train --texts 5000

Every text is said by every voice. About 160 times as fast as it is spoken, on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from recipes.voice_in_the_box.flite import TRACK_SECONDS, VOICES, Utterance, tracks_of
from recipes.voice_in_the_box.texts import texts
from recipes.voice_in_the_box.vocoder import PARTS, Frames, frames_of

FRAME_SECONDS = PARTS * TRACK_SECONDS
LONGEST_SECONDS = 10.0


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


def speak(chosen: Iterator[str]) -> Iterator[tuple[str, int, Utterance]]:
    """Every text by every voice; texts that are too long in one of them are left out."""
    for text in chosen:
        utterances = [tracks_of(text, voice) for voice in VOICES]
        if all(len(utterance.pitch_hz) * TRACK_SECONDS < LONGEST_SECONDS for utterance in utterances):
            for voice, utterance in enumerate(utterances):
                yield text, voice, utterance


def phones_of(utterance: Utterance, num_frames: int, names: list[str]) -> npt.NDArray[np.int64]:
    """(num_frames, PARTS) what is being said, an index into names. Raises ValueError for a phone that is not there."""
    ends = np.array([phone.end_seconds for phone in utterance.phones])
    middle = (np.arange(num_frames * PARTS) + 0.5) * TRACK_SECONDS
    which = np.minimum(np.searchsorted(ends, middle), len(ends) - 1)
    ids = np.array([names.index(phone.name) for phone in utterance.phones])
    return ids[which].reshape(num_frames, PARTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--split", choices=["train", "held-out"], default="train")
    parser.add_argument("--texts", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.path.exists():
        print(f"{arguments.path} is there already")
        return
    chosen = islice(texts(arguments.split, arguments.seed), arguments.texts)
    write_tracks(arguments.path, speak(iter(tqdm(chosen, total=arguments.texts, unit="text"))))


if __name__ == "__main__":
    main()
