"""Fewer multiplications, the same convolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from csm_codec.watermark.cpu.frame_kernels import NUM_POINTS, TILE, sigmoid
from csm_codec.watermark.cpu.winograd import Rows, TiledBins, WinogradLayer, transforms
from csm_codec.watermark.networks.silentcipher import SilentCipher

NUM_BINS = 3 * TILE + 1  # four tiles, as other tests' networks have: kernels are compiled for a number of tiles


def test_the_transforms_make_a_filter_of_three_taps() -> None:
    random = np.random.default_rng(0)
    outputs, weights, inputs = (matrix.numpy() for matrix in transforms())
    taps, samples = random.standard_normal(3), random.standard_normal(NUM_POINTS)
    filtered = outputs @ ((weights @ taps) * (inputs @ samples))
    assert np.abs(filtered - np.correlate(samples, taps)).max() < 1e-12


@pytest.mark.parametrize(
    "num_bins", [4 * TILE, 3 * TILE + 1, 4 * TILE - 1, pytest.param(TILE - 1, marks=pytest.mark.slow)]
)
@torch.inference_mode()
def test_a_layer_is_the_package_s(silentcipher: SilentCipher, num_bins: int) -> None:
    """Over a clip of even and odd frames, with zeros around it and past the last bin, whole tiles or not."""
    package = silentcipher.carrier_encoder.main[1]
    frames, expected = _clip(package, num_bins)
    bins = TiledBins(num_bins)
    layer = WinogradLayer(package, bins)
    inputs = [bins.pad(frame) for frame in frames]
    past = layer.begin(inputs[0])
    for index, output in enumerate(expected):
        y, past = layer.step(past, inputs[index + 1] if index + 1 < len(inputs) else None)
        assert np.abs(y[1 : 1 + num_bins] - output).max() < 1e-5 * np.abs(expected).max()
        assert y.shape == (bins.num_rows, 32)
        assert np.abs(y[0]).sum() == np.abs(y[1 + num_bins :]).sum() == 0


@torch.inference_mode()
def test_a_frame_alone_is_that_of_its_neighbours_in_the_clip(silentcipher: SilentCipher) -> None:
    package = silentcipher.carrier_encoder.main[1]
    frames, expected = _clip(package, NUM_BINS)
    bins = TiledBins(NUM_BINS)
    layer = WinogradLayer(package, bins)
    inputs = [None, *(bins.pad(frame) for frame in frames), None]
    for index, output in enumerate(expected):
        before, frame, after = inputs[index : index + 3]
        assert frame is not None
        y = layer.apply(before, frame, after)
        assert np.abs(y[1 : 1 + NUM_BINS] - output).max() < 1e-5 * np.abs(expected).max()


@torch.inference_mode()
def test_bfloat16_is_close_to_float32(silentcipher: SilentCipher) -> None:
    package = silentcipher.carrier_encoder.main[1]
    frames, expected = _clip(package, NUM_BINS)
    bins = TiledBins(NUM_BINS)
    layer = WinogradLayer(package, bins, dtype=torch.bfloat16)
    past = layer.begin(bins.pad(frames[0]))
    for frame, output in zip(frames[1:], expected, strict=False):
        y, past = layer.step(past, bins.pad(frame))
        distance = np.abs(y[1 : 1 + NUM_BINS] - output).max() / np.abs(expected).max()
        assert 1e-4 < distance < 0.03


@torch.inference_mode()
def test_layers_may_share_their_workspace(silentcipher: SilentCipher) -> None:
    """Each finds there what it needs, whatever the other one left."""
    bins = TiledBins(NUM_BINS)
    large, small = (WinogradLayer(silentcipher.carrier_encoder.main[index], bins) for index in (1, 0))
    own = WinogradLayer(silentcipher.carrier_encoder.main[1], bins)
    workspace = torch.empty(large.workspace_size)
    large.use(workspace)
    small.use(workspace)
    random = np.random.default_rng(0)
    past = expected_past = own.begin(_random_rows(random, bins, 32))
    for _ in range(4):
        x = _random_rows(random, bins, 32)
        small.apply(None, _random_rows(random, bins, 1), None)
        y, past = large.step(past, x)
        expected, expected_past = own.step(expected_past, x)
        assert np.array_equal(y, expected)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 30.0, -30.0, 89.0, -89.0, 1e30, -1e30])
def test_the_gate_is_a_sigmoid(value: float) -> None:
    expected = torch.sigmoid(torch.tensor(value, dtype=torch.float64)).item()
    assert sigmoid(np.float32(value)) == pytest.approx(expected, abs=1e-7)


def _random_rows(random: np.random.Generator, bins: TiledBins, channels: int) -> Rows:
    return bins.pad(random.standard_normal((bins.num_bins, channels)).astype(np.float32))


def _clip(package: torch.nn.Module, num_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Five frames into the layer and what it makes of them, (frames, bins, channels) each."""
    frames = torch.randn(5, num_bins, 32, generator=torch.Generator().manual_seed(0))
    outputs = package(frames.permute(2, 1, 0)[None])[0]
    return frames.numpy(), outputs.permute(2, 1, 0).numpy()
