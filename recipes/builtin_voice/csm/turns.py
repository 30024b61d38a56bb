"""What is said in the training sequences: each utterance's text, voice and codes, kept in one file for each file of
tracks.

    python -m recipes.builtin_voice.csm.turns build/voice

Codes come twice: exactly, as the tracks have them, and as they would be heard by the encoder, which misses some of a
recording's spectrum and at times its pitch.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from recipes.builtin_voice.codec.quantizer import DIM, Quantizer
from recipes.builtin_voice.tracks import Tracks, read_tracks
from recipes.builtin_voice.vocoder import PARTS, PULSES, Frames

Ints = npt.NDArray[np.integer]

PHONE_PARTS = tuple(range(2, PARTS, 4))  # where in a frame the auxiliary loss asks for the phone
MISHEARD = 0.5  # of the spectrum, as a standard deviation: what the encoder leaves unexplained is about its square
MISHEARD_PITCHES = 0.15  # share of the frames whose pitch is off by one


@dataclass(frozen=True, slots=True)
class Turn:
    text: str
    voice: int
    codes: Ints  # (frames, K)
    heard: Ints  # (frames, K) of a recording, by the encoder
    phones: Ints  # (frames, len(PHONE_PARTS)) what is being said, an index into the phones' names


def open_turns(folder: Path, split: str, phone_names: list[str] | None = None) -> tuple[list[Turn], list[str]]:
    """The turns of every `tracks-SPLIT*.npz` of the folder, and the names of their phones.

    phone_names: to count the phones by; those of the first file when None. Phones without a name count as the first.
    """
    turns: list[Turn] = []
    for path in turn_files(folder, split):
        with np.load(path) as file:
            its_names = file["phone_names"].tolist()
            phone_names = phone_names or its_names
            numbers = np.array([phone_names.index(name) if name in phone_names else 0 for name in its_names], np.uint8)
            codes, heard, phones, starts = file["codes"], file["heard"], numbers[file["phones"]], file["starts"]
            for index, (text, voice) in enumerate(zip(file["texts"].tolist(), file["voices"].tolist(), strict=True)):
                rows = slice(starts[index], starts[index + 1])
                turns.append(Turn(text, voice, codes[rows], heard[rows], phones[rows]))
    return turns, phone_names or []


def turn_files(folder: Path, split: str) -> Iterator[Path]:
    """One for each file of tracks, in the order of their numbers; made where it is not there."""
    for tracks in sorted(folder.glob(f"tracks-{split}*.npz"), key=lambda path: (len(path.stem), path.stem)):
        path = tracks.with_name(tracks.name.replace("tracks-", "turns-"))
        if not path.exists():
            _write(path, read_tracks(tracks), Quantizer.load(folder / "quantizer.pt"))
        yield path


def misheard(frames: Frames, quantizer: Quantizer, random: np.random.Generator) -> Ints:
    """(N, K) codes of frames that an encoder has understood badly."""
    steps = random.choice([-1, 0, 1], len(frames), p=[MISHEARD_PITCHES / 2, 1 - MISHEARD_PITCHES, MISHEARD_PITCHES / 2])
    latents = quantizer.latents(replace(frames, pulses=np.clip(frames.pulses + steps, PULSES[0], PULSES[-1])))
    spectral = latents[:, DIM:]
    noise = torch.from_numpy(random.standard_normal(spectral.shape, np.float32))
    return quantizer.encode(quantizer.joined(latents, spectral + MISHEARD * spectral.std(dim=0, correction=0) * noise))


def _write(path: Path, tracks: Tracks, quantizer: Quantizer) -> None:
    random = np.random.default_rng(0)
    draft = path.with_suffix(".new.npz")
    np.savez(
        draft,
        texts=np.array(tracks.texts),
        voices=tracks.voices,
        starts=tracks.starts,
        codes=quantizer.encode(quantizer.latents(tracks.frames)).astype(np.int16),
        heard=misheard(tracks.frames, quantizer, random).astype(np.int16),
        phones=tracks.phones[:, PHONE_PARTS].astype(np.uint8),
        phone_names=np.array(tracks.phone_names),
    )
    draft.rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for split in ("heldout", "train"):
        for _ in tqdm(turn_files(folder, split), desc=split, unit="file"):
            pass


if __name__ == "__main__":
    main()
