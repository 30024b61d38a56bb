"""The training's channel between embedder and detector: a random mixture of distortions for each batch.

Filters and noise are differentiable; mu-law, 16 bits and Opus are not, and gradients pass through them unchanged.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

import av
import numpy as np
import torch
from torch import Tensor

from csm_codec.resample import Pcm, resample
from recipes.builtin_voice.speech import SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class Mixture:
    """The probabilities of distortions."""

    share: float  # of the batches that are distorted at all
    chances: Mapping[str, float]  # of each distortion among these; their sum is one


EVEN = Mixture(
    0.75,
    MappingProxyType(
        {"band": 0.12, "noise": 0.24, "spectral-noise": 0.16, "mu-law": 0.1, "telephone": 0.14, "opus": 0.24}
    ),
)
NOISY = Mixture(
    0.85,
    MappingProxyType(
        {
            "white": 0.44,
            "band": 0.07,
            "noise": 0.1,
            "spectral-noise": 0.1,
            "mu-law": 0.04,
            "telephone": 0.08,
            "opus": 0.17,
        }
    ),
)


def distort(
    pcm: Tensor,
    random: np.random.Generator,
    *,
    severity: float,
    mixture: Mixture = EVEN,
    power: Tensor | None = None,
) -> Tensor:
    """pcm: (rows, samples). severity: 0 leaves the batch as it is, 1 for the full range.

    power: (rows, 1), mean of the squares of the recording that each row is cut from; noise is that far below. Without
    it, that of the row itself.
    """
    if random.random() > mixture.share * severity:
        return pcm
    choice = random.choice(list(mixture.chances), p=list(mixture.chances.values()))
    if choice == "band":
        pcm = _band_limited(pcm, 0.0, random.uniform(2800, 9000))
    elif choice == "noise":
        pcm = _noisy(pcm, random, power, random.uniform(0, 0.5), (20, 40))
    elif choice == "white":
        pcm = _noisy(pcm, random, power, 0.0, (18, 32))
    elif choice == "spectral-noise":
        pcm = _spectrally_noisy(pcm, random)
    elif choice == "mu-law":
        pcm = _through(pcm, _mu_law(pcm))
    elif choice == "telephone":
        pcm = _band_limited(pcm, random.uniform(0, 250), random.uniform(3300, 3900))
        pcm = _through(pcm, _mu_law(pcm))
    else:
        pcm = _through(pcm, _opus(pcm, int(random.choice((16, 24, 32)))))
    return pcm


def _through(pcm: Tensor, heard: Tensor) -> Tensor:
    return pcm + (heard - pcm).detach()


def _band_limited(pcm: Tensor, low_hz: float, high_hz: float) -> Tensor:
    spectrum = torch.fft.rfft(pcm)
    frequencies = torch.linspace(0, SAMPLE_RATE_HZ / 2, spectrum.shape[1])
    passed = torch.sigmoid((high_hz - frequencies) / 40)
    if low_hz > 0:
        passed = passed * torch.sigmoid((frequencies - low_hz) / 20)
    return torch.fft.irfft(spectrum * passed, n=pcm.shape[1])


def _noisy(
    pcm: Tensor, random: np.random.Generator, power: Tensor | None, slope: float, between_db: tuple[float, float]
) -> Tensor:
    """slope: 0 is white, 0.5 is pink. between_db: least and most that it lies below the audio."""
    generator = torch.Generator().manual_seed(int(random.integers(2**31)))
    spectrum = torch.fft.rfft(torch.randn(pcm.shape, generator=generator))
    frequencies = torch.arange(1, spectrum.shape[1] + 1) / spectrum.shape[1]
    noise = torch.fft.irfft(spectrum * frequencies**-slope, n=pcm.shape[1])
    noise = noise / noise.square().mean(dim=1, keepdim=True).sqrt()
    snr_db = torch.as_tensor(random.uniform(*between_db, size=(len(pcm), 1)), dtype=pcm.dtype)
    if power is None:
        power = pcm.detach().square().mean(dim=1, keepdim=True)
    return pcm + noise * power.sqrt() * 10 ** (-snr_db / 20)


def _spectrally_noisy(pcm: Tensor, random: np.random.Generator) -> Tensor:
    """Noise with the shape of the audio's short-time spectrum, like a lossy codec's."""
    generator = torch.Generator().manual_seed(int(random.integers(2**31)))
    window = torch.hann_window(512)
    with torch.no_grad():
        noise = torch.randn(pcm.shape, generator=generator)
        shape = torch.stft(pcm, 512, 256, window=window, return_complex=True)
        noise = torch.stft(noise, 512, 256, window=window, return_complex=True) * shape.abs()
        noise = torch.istft(noise, 512, 256, window=window, length=pcm.shape[1])
        power = noise.square().mean(dim=1, keepdim=True).clamp_min(1e-12)
        snr_db = random.uniform(8, 25)
        noise = noise * (pcm.square().mean(dim=1, keepdim=True) / power).sqrt() * 10 ** (-snr_db / 20)
    return pcm + noise


def _mu_law(pcm: Tensor) -> Tensor:
    """8 bits, mu = 255 (ITU-T G.711's law, without its segments)."""
    with torch.no_grad():
        squeezed = torch.sign(pcm) * torch.log1p(255 * pcm.abs().clamp_max(1)) / np.log(256)
        squeezed = torch.round(squeezed * 127.5 - 0.5).clamp(-128, 127).add(0.5) / 127.5
        return torch.sign(squeezed) * torch.expm1(squeezed.abs() * np.log(256)) / 255


def _opus(pcm: Tensor, kbit_per_s: int) -> Tensor:
    """All rows as one recording through libopus, which keeps the timing."""
    rows = pcm.detach().numpy()
    silence = np.zeros((1, SAMPLE_RATE_HZ // 20), np.float32).repeat(len(rows), axis=0)
    joined = np.concatenate((rows, silence), axis=1)
    heard = opus_round_trip(joined.ravel(), kbit_per_s)
    return torch.from_numpy(heard.reshape(joined.shape)[:, : rows.shape[1]].copy())


def opus_round_trip(pcm: Pcm, kbit_per_s: int) -> Pcm:
    """24 kHz in and out, the same length, through libopus as FFmpeg sets it up."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE_HZ)
        stream.bit_rate, stream.layout, stream.format = 1000 * kbit_per_s, "mono", "flt"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm[None], np.float32), "flt", "mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE_HZ, 0, Fraction(1, SAMPLE_RATE_HZ)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    file.seek(0)
    with av.open(file, "r", format="ogg") as container:
        pieces = [frame.to_ndarray() for frame in container.decode(audio=0)]
        rate_hz = container.streams.audio[0].rate
    heard = resample(np.concatenate(pieces, axis=-1).reshape(-1).astype(np.float32), rate_hz, SAMPLE_RATE_HZ)[
        : len(pcm)
    ]
    return np.pad(heard, (0, len(pcm) - len(heard)))
