"""The utterances of the training sequences: symbols, voice, codes and phones of each, in files of 500 texts.

    python -m recipes.builtin_voice.csm.turns build/voice --processes 2

Reads `texts-train.txt` and `texts-heldout.txt` of the folder; every text is said by every voice. About 70 utterances a
second on one core. Existing files are kept, so a run goes on where it was stopped. A training that runs meanwhile reads
each new file. A frame's eight codes are kept in ten bytes.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from recipes.builtin_voice.codec.quantizer import Quantizer
from recipes.builtin_voice.csm.symbols import symbols_of
from recipes.builtin_voice.flite import Utterance
from recipes.builtin_voice.speaking import phones_of, speak
from recipes.builtin_voice.vocoder import PARTS, frames_of

Ints = npt.NDArray[np.integer]

TEXTS_A_FILE = 500
SPLITS = ("heldout", "train")
BITS = 10  # of a code
PHONE_PARTS = tuple(range(2, PARTS, 4))  # parts of a frame whose phones the auxiliary loss predicts
PHONES = (
    "pau aa ae ah ao aw ax ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z zh"
).split()  # of flite


@dataclass(frozen=True)
class Turns:
    """U utterances, whose frames are concatenated."""

    texts: list[str]
    symbols: list[str]  # separated by spaces
    voices: npt.NDArray[np.uint8]  # (U,)
    starts: npt.NDArray[np.int64]  # (U + 1,) first frame of each
    codes: npt.NDArray[np.int16]  # (frames, K)
    phones: npt.NDArray[np.uint8]  # (frames, len(PHONE_PARTS)) indices into PHONES

    def __len__(self) -> int:
        return len(self.texts)


def read_turns(path: Path) -> Turns:
    with np.load(path) as file:
        starts = file["starts"]
        return Turns(
            texts=bytes(file["texts"]).decode().splitlines(),
            symbols=bytes(file["symbols"]).decode().splitlines(),
            voices=file["voices"],
            starts=starts,
            codes=unpacked(file["codes"], int(starts[-1])),
            phones=file["phones"],
        )


def turn_files(folder: Path, split: str) -> list[Path]:
    """The existing files of turns, in the order of their texts."""
    return sorted(folder.glob(f"turns-{split}-*[0-9].npz"))


def packed(codes: Ints) -> npt.NDArray[np.uint8]:
    """Packs codes below 1024, (N, K), into N * K * BITS bits."""
    bits = (codes[..., None] >> np.arange(BITS)) & 1
    return np.packbits(bits.astype(np.uint8))


def unpacked(data: npt.NDArray[np.uint8], num_frames: int) -> npt.NDArray[np.int16]:
    """The inverse of `packed`; rows are of as many codes as the data holds."""
    num_codes = len(data) * 8 // BITS // max(1, num_frames)
    bits = np.unpackbits(data)[: num_frames * num_codes * BITS].reshape(num_frames, num_codes, BITS)
    return (bits.astype(np.int16) << np.arange(BITS, dtype=np.int16)).sum(axis=-1, dtype=np.int16)


def write_turns(path: Path, texts: Iterator[str], quantizer: Quantizer) -> None:
    """Texts that are too long for a voice are left out."""
    random = np.random.default_rng(len(path.name) * 1000 + sum(path.name.encode()))
    said: list[tuple[str, str, int]] = []
    codes, phones = [], []
    for text, voice, utterance in speak(texts):
        said.append((text, symbols_of(utterance.words, random), voice))
        its_codes, its_phones = _frames(utterance, quantizer)
        codes.append(its_codes)
        phones.append(its_phones)
    draft = path.with_suffix(".new.npz")
    np.savez_compressed(
        draft,
        texts=np.frombuffer("\n".join(text for text, _, _ in said).encode(), np.uint8),
        symbols=np.frombuffer("\n".join(symbols for _, symbols, _ in said).encode(), np.uint8),
        voices=np.array([voice for _, _, voice in said], np.uint8),
        starts=np.cumsum([0] + [len(rows) for rows in codes]),
        codes=packed(np.concatenate(codes)),
        phones=np.concatenate(phones),
    )
    draft.rename(path)


def _frames(utterance: Utterance, quantizer: Quantizer) -> tuple[Ints, npt.NDArray[np.uint8]]:
    frames = frames_of(utterance)
    phones = phones_of(utterance, len(frames), PHONES)[:, PHONE_PARTS]
    return quantizer.encode(quantizer.latents(frames)), phones.astype(np.uint8)


def _make(job: tuple[Path, Path, int]) -> None:
    """texts, file of turns, number of the file."""
    source, path, number = job
    lines = _lines(source)[number * TEXTS_A_FILE : (number + 1) * TEXTS_A_FILE]
    write_turns(path, iter(lines), Quantizer.load(path.parent / "quantizer.pt"))


@cache
def _lines(source: Path) -> list[str]:
    return source.read_text().splitlines()


def _begin() -> None:
    """A worker's own settings."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--texts", type=int, help="as many of the file's; all when left out")
    arguments = parser.parse_args()
    jobs = []
    for split in SPLITS:
        source = arguments.folder / f"texts-{split}.txt"
        count = -(-len(_lines(source)[: arguments.texts]) // TEXTS_A_FILE)
        paths = [arguments.folder / f"turns-{split}-{number:05}.npz" for number in range(count)]
        jobs += [(source, path, number) for number, path in enumerate(paths) if not path.exists()]
    with get_context("spawn").Pool(arguments.processes, _begin) as pool:
        for _ in tqdm(pool.imap_unordered(_make, jobs), total=len(jobs), unit="file", disable=None):
            pass


if __name__ == "__main__":
    main()
