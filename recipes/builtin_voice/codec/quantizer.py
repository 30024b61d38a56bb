"""The codebooks: k-means on the vocoder's features, in the split form that Mimi's quantizer has.

The first codebook holds the exact pitch and the coarse spectrum; a language model plans with it. The others hold the
detail: they are a residual quantizer of their own, on the principal components of a frame's spectra and voicing. No
network is trained for either, so the codes of the whole corpus are known before any training.

    python -m recipes.builtin_voice.codec.quantizer build/voice
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recipes.builtin_voice.flite import NUM_BANDS, NUM_CEPSTRA, Floats
from recipes.builtin_voice.tracks import read_tracks
from recipes.builtin_voice.vocoder import GLIDES, PARTS, PULSES, Frames

Codes = npt.NDArray[np.int64]  # (N, codebooks)

DIM = 64  # dimensions of both quantizers' latents
COARSE = 12  # principal components that the first codebook quantizes beside the pitch
PITCH_DIMS = len(PULSES) + len(GLIDES)
_COARSE_SCALE = 0.01  # so small beside the pitch's ones and zeros that the nearest entry always has the right pitch
_REST_SCALE = 0.1  # to magnitudes around 1, for the networks
COARSE_OF_REST = _COARSE_SCALE / _REST_SCALE  # from the rest's latents to those of the first codebook
_STRENGTH_WEIGHT = 1.5  # of a voicing strength, relative to a cepstral coefficient
_SAMPLE = 120_000  # frames for k-means
_ROUNDS = 20


@dataclass(frozen=True)
class Quantizer:
    """first: (bins, DIM); rest: (codebooks - 1, bins, DIM). mean: (F,); components: (F, DIM), orthonormal columns."""

    mean: Tensor
    components: Tensor
    first: Tensor
    rest: Tensor

    @property
    def num_codebooks(self) -> int:
        return 1 + len(self.rest)

    @property
    def bins(self) -> int:
        return self.first.shape[0]

    def latents(self, frames: Frames) -> Tensor:
        """(N, 2 * DIM): the input of the first quantizer, then that of the rest."""
        spectral = _principal(frames, self.mean, self.components)
        return torch.cat([_semantic(frames, spectral), spectral], dim=1)

    def joined(self, latents: Tensor, spectral: Tensor) -> Tensor:
        """The latents with other spectra. spectral: (N, DIM), the input of the rest of the codebooks."""
        semantic = latents[:, :DIM].clone()
        semantic[:, PITCH_DIMS : PITCH_DIMS + COARSE] = _coarse(spectral)
        return torch.cat([semantic, spectral], dim=1)

    def encode(self, latents: Tensor) -> Codes:
        codes = [nearest(latents[:, :DIM], self.first)]
        residual = latents[:, DIM:].clone()
        for codebook in self.rest:
            codes.append(nearest(residual, codebook))
            residual -= codebook[codes[-1]]
        return torch.stack(codes, dim=1).numpy()

    def decode(self, codes: Codes) -> Frames:
        """The features of the codes."""
        ids = torch.from_numpy(codes)
        spectral = sum(codebook[ids[:, 1 + i]] for i, codebook in enumerate(self.rest))
        assert isinstance(spectral, Tensor)
        features = (spectral / _REST_SCALE @ self.components.T + self.mean).numpy() / _WEIGHTS
        parts = features.reshape(-1, PARTS, NUM_CEPSTRA + NUM_BANDS)
        pitch = self.first[ids[:, 0]]
        pulses = pitch[:, : len(PULSES)].argmax(dim=1).numpy() + PULSES[0]
        glide = pitch[:, len(PULSES) : PITCH_DIMS].argmax(dim=1).numpy() + GLIDES[0]
        cepstra = parts[..., :NUM_CEPSTRA].astype(np.float32, copy=False)
        strengths = np.clip(parts[..., NUM_CEPSTRA:], 0, 1).astype(np.float32, copy=False)
        return Frames(cepstra, strengths, pulses, glide)

    def save(self, path: Path) -> None:
        torch.save(vars(self), path)

    @classmethod
    def load(cls, path: Path) -> Quantizer:
        return cls(**torch.load(path, weights_only=True))


def train_quantizer(frames: Frames, *, num_codebooks: int, bins: int, seed: int = 0) -> Quantizer:
    """Trains all codebooks by k-means. Entry 0 is each one's rarest, as the all-zero frame means the end of speech."""
    generator = torch.Generator().manual_seed(seed)
    vectors = _supervectors(frames)
    mean = vectors.mean(dim=0)
    sample = torch.randperm(len(vectors), generator=generator)[:_SAMPLE]
    covariance = torch.cov((vectors[sample] - mean).T)
    components = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :DIM].contiguous()
    rows = sample.numpy()
    chosen = Frames(frames.cepstra[rows], frames.strengths[rows], frames.pulses[rows], frames.glide[rows])
    spectral = _principal(chosen, mean, components)
    first = _first_codebook(chosen, spectral, bins, generator)
    rest, residual = [], spectral.clone()
    for _ in range(num_codebooks - 1):
        codebook = _rarest_first(residual, _k_means(residual, bins, generator))
        rest.append(codebook)
        residual = residual - codebook[nearest(residual, codebook)]
    return Quantizer(mean, components, _rarest_first(_semantic(chosen, spectral), first), torch.stack(rest))


def _first_codebook(frames: Frames, spectral: Tensor, bins: int, generator: torch.Generator) -> Tensor:
    """Entries for each pitch and glide, in number proportional to the square root of its frequency."""
    semantic = _semantic(frames, spectral)
    kinds, which, counts = np.unique(
        np.stack([frames.pulses, frames.glide], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    shares = np.sqrt(counts)
    entries = np.maximum(1, np.floor(shares / shares.sum() * (bins - len(kinds)))).astype(int)
    entries = np.minimum(entries, counts)
    centres = []
    for kind, number in enumerate(entries.tolist()):
        members = semantic[torch.from_numpy(which.reshape(-1) == kind)]
        centres.append(_k_means(members, number, generator))
    first = torch.cat(centres)
    unused = first[:1].repeat(bins - len(first), 1)
    unused[:, -1] = 10.0  # far from all points
    return torch.cat([first, unused])


def _k_means(points: Tensor, k: int, generator: torch.Generator) -> Tensor:
    centres = points[torch.randperm(len(points), generator=generator)[:k]].clone()
    for _ in range(_ROUNDS):
        ids = nearest(points, centres)
        counts = torch.bincount(ids, minlength=k)
        sums = torch.zeros_like(centres).index_add_(0, ids, points)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
        empty = (counts == 0).nonzero()[:, 0]
        if len(empty):
            again = torch.randint(len(points), (len(empty),), generator=generator)
            centres[empty] = points[again]
    return centres


def _rarest_first(points: Tensor, codebook: Tensor) -> Tensor:
    order = torch.bincount(nearest(points, codebook), minlength=len(codebook)).argsort(stable=True)
    return codebook[order].contiguous()


def nearest(points: Tensor, codebook: Tensor) -> Tensor:
    """The index of the nearest entry for each point, (N,). points: (N, D). codebook: (bins, D)."""
    half_squares = codebook.square().sum(dim=1) / 2
    return torch.cat([(half_squares - part @ codebook.T).argmin(dim=1) for part in points.split(16384)])


def _principal(frames: Frames, mean: Tensor, components: Tensor) -> Tensor:
    """(N, DIM)"""
    return (_supervectors(frames) - mean) @ components * _REST_SCALE


def _supervectors(frames: Frames) -> Tensor:
    features = np.concatenate([frames.cepstra, frames.strengths], axis=2)
    return torch.from_numpy(features.reshape(len(frames), -1) * _WEIGHTS)


def _semantic(frames: Frames, spectral: Tensor) -> Tensor:
    semantic = torch.zeros(len(frames), DIM)
    rows = torch.arange(len(frames))
    semantic[rows, torch.from_numpy(frames.pulses - PULSES[0])] = 1.0
    semantic[rows, torch.from_numpy(frames.glide - GLIDES[0] + len(PULSES))] = 1.0
    semantic[:, PITCH_DIMS : PITCH_DIMS + COARSE] = _coarse(spectral)
    return semantic


def _coarse(spectral: Tensor) -> Tensor:
    return spectral[:, :COARSE] * COARSE_OF_REST


def _weights() -> Floats:
    """Cepstral distance is the distance of log spectra: c0 once, the others twice."""
    part = np.full(NUM_CEPSTRA + NUM_BANDS, np.sqrt(2), dtype=np.float32)
    part[0] = 1.0
    part[NUM_CEPSTRA:] = _STRENGTH_WEIGHT
    return np.tile(part, PARTS)


_WEIGHTS = _weights()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--codebooks", type=int, default=8)
    parser.add_argument("--bins", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    path = arguments.folder / "quantizer.pt"
    if path.exists():
        print(f"{path} is there already")
        return
    tracks = read_tracks(arguments.folder / "tracks-train.npz")
    quantizer = train_quantizer(
        tracks.frames, num_codebooks=arguments.codebooks, bins=arguments.bins, seed=arguments.seed
    )
    quantizer.save(path)


if __name__ == "__main__":
    main()
