"""Fewer multiplications, the same convolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from csm_engine.codec.watermark.silentcipher import SilentCipher
from csm_engine.codec.watermark.winograd import NUM_POINTS, TILE, TiledBins, WinogradLayer, transforms


def test_the_transforms_make_a_filter_of_three_taps() -> None:
    random = np.random.default_rng(0)
    outputs, weights, inputs = (matrix.numpy() for matrix in transforms())
    taps, samples = random.standard_normal(3), random.standard_normal(NUM_POINTS)
    filtered = outputs @ ((weights @ taps) * (inputs @ samples))
    assert np.abs(filtered - np.correlate(samples, taps)).max() < 1e-12


@pytest.mark.parametrize("num_bins", [5 * TILE, 5 * TILE + 1, 6 * TILE - 1, TILE - 1])
@torch.inference_mode()
def test_a_layer_is_the_package_s(silentcipher: SilentCipher, num_bins: int) -> None:
    """With zeros past the last bin, whole tiles or not."""
    package = silentcipher.carrier_encoder.main[1]
    frames = torch.randn(3, 32, num_bins, generator=torch.Generator().manual_seed(0))
    expected = package(frames.permute(1, 2, 0)[None])[0, :, :, 1].T  # of the middle frame, (bins, channels)

    bins = TiledBins(num_bins)
    layer = WinogradLayer(package, bins)
    x = torch.cat([bins.split(channel) for channel in frames.unbind(1)], dim=3)
    product = torch.empty(1, *layer.product_shape)
    layer.multiply(list(layer.transformed(x)), product[0])
    y = layer.finish(product)
    found = torch.stack([bins.join(channel)[0] for channel in y.unbind(3)], dim=1)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert y.transpose(1, 2).flatten(1, 2)[:, num_bins:].abs().sum() == 0


@torch.inference_mode()
def test_a_frame_that_is_not_there_is_a_frame_of_zeros(silentcipher: SilentCipher) -> None:
    bins = TiledBins(20)
    layer = WinogradLayer(silentcipher.carrier_encoder.main[1], bins)
    frames = layer.transformed(torch.randn(3, TILE, bins.tiles, 32))
    zeros = layer.transformed(torch.zeros(1, TILE, bins.tiles, 32))[0]
    products = torch.empty(2, *layer.product_shape)
    layer.multiply([None, frames[1], None], products[0])
    layer.multiply([zeros, frames[1], zeros], products[1])
    assert torch.equal(products[0], products[1])
