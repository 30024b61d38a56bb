"""A vocoder for flite's tracks whose phase each frame determines. The built-in voice is trained on its sound.

An 80 ms frame has k pulses, the first of them at the frame's beginning, and noise that repeats every frame. So the
samples of a frame follow from its own features and the tail of the frame before, and a network can learn them by
regression, without an adversary. The pitch moves in steps of 12.5 Hz with a glide inside the frame. Loudness and
voicing are flite's own, and so is the spectrum but for a postfilter that raises its peaks. Source-filter model with
mixed excitation as in flite's own vocoder (cst_mlsa.c), filters as in Imai, "Cepstral analysis synthesis on the mel
frequency scale", ICASSP 1983, but by Fourier transform; postfilter as in Yoshimura et al., "Incorporating a mixed
excitation model and postfilter into HMM-based text-to-speech synthesis", 2005: averaged spectra are too smooth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recipes.builtin_voice.flite import ALL_PASS, NUM_BANDS, NUM_CEPSTRA, Floats, Utterance
from recipes.builtin_voice.flite import SAMPLE_RATE_HZ as FLITE_RATE_HZ

SAMPLE_RATE_HZ = 24000
FRAME_SIZE = 1920  # samples
PARTS = 16  # of a frame; each is one entry of flite's tracks
PART_SIZE = FRAME_SIZE // PARTS
FEATURES = NUM_CEPSTRA + NUM_BANDS  # of one part
PULSES = range(6, 27)  # per frame: 75 to 325 Hz
GLIDES = (-1, 0, 1)  # change of pulses per frame from a frame's beginning to its end
POSTFILTER = 1.6  # times the cepstrum from its second coefficient on: loudness and tilt stay

_FFT = 768  # at 24 kHz: 31.25 Hz a bin, as 512 at 16 kHz
_BINS = 257  # up to flite's 8 kHz; above there is nothing
_BAND_EDGES_HZ = (0, 1000, 2000, 4000, 6000, 8000)
_SILENCE = -1.0  # smallest c0: softer sound is inaudible and need not be learned
_VOICED = 0.05  # with strengths below it there are no pulses


@dataclass(frozen=True, slots=True)
class Frames:
    """N frames of features. cepstra (N, PARTS, NUM_CEPSTRA), strengths (N, PARTS, NUM_BANDS), pulses and glide (N,)."""

    cepstra: Floats
    strengths: Floats
    pulses: npt.NDArray[np.int64]
    glide: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pulses)


def frames_of(utterance: Utterance) -> Frames:
    """Whole frames; the last one is filled up with the end of the utterance."""
    count = -(-len(utterance.pitch_hz) // PARTS)
    missing = count * PARTS - len(utterance.pitch_hz)
    cepstra = np.pad(utterance.cepstra, ((0, missing), (0, 0)), mode="edge")
    cepstra[:, 0] = np.maximum(cepstra[:, 0], _SILENCE)
    voiced = np.pad(utterance.pitch_hz, (0, missing)) > 0
    strengths = np.pad(utterance.strengths, ((0, missing), (0, 0)), mode="edge") * voiced[:, None]
    pulses, glide = _locked_pitch(np.pad(utterance.pitch_hz, (0, missing), mode="edge"))
    return Frames(
        cepstra.reshape(count, PARTS, NUM_CEPSTRA),
        strengths.reshape(count, PARTS, NUM_BANDS).astype(np.float32),
        pulses,
        glide,
    )


def _locked_pitch(pitch_hz: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pulses and glide of each frame. Unvoiced parts take the pitch of their surroundings."""
    times = np.arange(len(pitch_hz))
    voiced = pitch_hz > 0
    if not voiced.any():
        return np.full(len(pitch_hz) // PARTS, PULSES[0]), np.zeros(len(pitch_hz) // PARTS, np.int64)
    filled = np.interp(times, times[voiced], pitch_hz[voiced]).reshape(-1, PARTS)
    wanted = filled.mean(axis=1) * FRAME_SIZE / SAMPLE_RATE_HZ
    pulses = np.clip(np.rint(wanted), PULSES[0], PULSES[-1]).astype(np.int64)
    around = np.pad(pulses, 1, mode="edge")
    glide = np.clip(np.rint((around[2:] - around[:-2]) / 2), GLIDES[0], GLIDES[-1]).astype(np.int64)
    return pulses, glide


def synthesize(frames: Frames) -> Floats:
    """The samples of N frames, (N * FRAME_SIZE,), mono at SAMPLE_RATE_HZ. The same frames give the same samples."""
    out = np.zeros(len(frames) * FRAME_SIZE + _FFT, dtype=np.float32)
    spectrum = _spectrum(frames.cepstra.reshape(-1, NUM_CEPSTRA)) * _LEVEL
    strengths = frames.strengths.reshape(-1, NUM_BANDS) @ _BANDS  # (N * PARTS, _BINS)
    _add_pulses(out, frames, spectrum * strengths)
    _add_noise(out, spectrum * np.sqrt(np.clip(1 - strengths**2, 0, 1)))
    return out[: len(frames) * FRAME_SIZE]


def pulse_times(pulses: int, glide: int) -> npt.NDArray[np.float64]:
    """Sample positions of a frame's pulses, 0 first: where the phase k u + g (u^2 - u) / 2, u = 0..1, is whole."""
    whole = np.arange(pulses, dtype=np.float64)
    if glide == 0:
        return whole / pulses * FRAME_SIZE
    slope = pulses - glide / 2
    u = (-slope + np.sqrt(slope**2 + 2 * glide * whole)) / glide
    return u * FRAME_SIZE


def _spectrum(cepstra: Floats) -> npt.NDArray[np.complex64]:
    """Spectra, (N, _BINS), of cepstra, (N, NUM_CEPSTRA), with sharper peaks and valleys and the same power."""
    plain, sharp = np.exp(cepstra @ _WARPED), np.exp((cepstra * _SHARPER) @ _WARPED)
    power = [np.square(np.abs(spectrum)).mean(axis=1, keepdims=True) for spectrum in (plain, sharp)]
    return sharp * np.sqrt(power[0] / power[1])


def _add_pulses(out: Floats, frames: Frames, spectrum: npt.NDArray[np.complex64]) -> None:
    times, heights = [], []
    for i, (pulses, glide) in enumerate(zip(frames.pulses.tolist(), frames.glide.tolist(), strict=True)):
        times.append(pulse_times(pulses, glide) + i * FRAME_SIZE)
        heights.append(np.full(pulses, np.sqrt(FRAME_SIZE / pulses), np.float32))
    at = np.concatenate(times)
    parts = np.minimum((at / PART_SIZE).astype(np.int64), len(spectrum) - 1)
    sounding = frames.strengths.reshape(-1, NUM_BANDS)[parts, 0] > _VOICED
    at, parts, height = at[sounding], parts[sounding], np.concatenate(heights)[sounding]
    start = np.floor(at).astype(np.int64)
    delay = np.exp(-2j * np.pi / _FFT * np.arange(_BINS) * (at - start)[:, None]).astype(np.complex64)
    _add(out, _responses(spectrum[parts] * delay * height[:, None]), start)


def _add_noise(out: Floats, spectrum: npt.NDArray[np.complex64]) -> None:
    parts = np.arange(len(spectrum))
    excitation = _NOISE[parts % PARTS]  # (N * PARTS, _BINS), windowed over two parts
    _add(out, _responses(spectrum * excitation), parts * PART_SIZE)


def _responses(spectrum: npt.NDArray[np.complex64]) -> Floats:
    full = np.zeros((len(spectrum), _FFT // 2 + 1), dtype=np.complex64)
    full[:, :_BINS] = spectrum * _BAND_LIMIT
    return np.fft.irfft(full, axis=1).astype(np.float32)


def _add(out: Floats, responses: Floats, start: npt.NDArray[np.int64]) -> None:
    for response, at in zip(responses, start.tolist(), strict=True):
        out[at : at + _FFT] += response


def _warped_cosines() -> npt.NDArray[np.complex64]:
    """(NUM_CEPSTRA, _BINS): e^(-j m w~), the all-pass warped frequency of each bin."""
    omega = 2 * np.pi * np.arange(_BINS) * (SAMPLE_RATE_HZ / _FFT) / FLITE_RATE_HZ
    warped = omega + 2 * np.arctan2(ALL_PASS * np.sin(omega), 1 - ALL_PASS * np.cos(omega))
    return np.exp(-1j * np.arange(NUM_CEPSTRA)[:, None] * warped).astype(np.complex64)


def _bands() -> Floats:
    """(NUM_BANDS, _BINS): which band a bin is in, with linear borders of 250 Hz."""
    hertz = np.arange(_BINS) * SAMPLE_RATE_HZ / _FFT
    rises = [np.clip((hertz - edge) / 250 + 0.5, 0, 1) for edge in _BAND_EDGES_HZ[1:-1]]
    steps = [np.ones(_BINS), *rises, np.zeros(_BINS)]
    return np.array([steps[i] - steps[i + 1] for i in range(NUM_BANDS)], dtype=np.float32)


def _noise() -> npt.NDArray[np.complex64]:
    """(PARTS, _BINS): spectra of a frame's noise, one part after another, each over two parts under a Hann window."""
    noise = np.random.default_rng(2024).standard_normal(FRAME_SIZE)
    window = np.sin(np.pi * (np.arange(2 * PART_SIZE) + 0.5) / (2 * PART_SIZE)) ** 2
    index = (np.arange(PARTS)[:, None] * PART_SIZE + np.arange(2 * PART_SIZE)) % FRAME_SIZE
    return np.fft.rfft(noise[index] * window, _FFT, axis=1)[:, :_BINS].astype(np.complex64)


_WARPED = _warped_cosines()
_SHARPER = np.where(np.arange(NUM_CEPSTRA) < 2, 1, POSTFILTER).astype(np.float32)
_BANDS = _bands()
_NOISE = _noise()
_BAND_LIMIT = np.clip((7900 - np.arange(_BINS) * SAMPLE_RATE_HZ / _FFT) / 400 + 0.5, 0, 1).astype(np.float32)
_LEVEL = np.float32(1 / 32768)
