"""Networks that read tones as symbols."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import Tensor, nn

from csm_codec.watermark.networks.silentcipher import SilentCipher


class _ToneReader(nn.Module):
    """A message decoder for tones: a symbol is how strong its bin is, beside noise in the others."""

    def forward(self, carrier: Tensor) -> Tensor:
        return 50 * carrier[:, :, [4, 8, 12, 16, 20]]


@pytest.fixture(scope="module")
def tone_scheme(silentcipher: SilentCipher) -> SilentCipher:
    """With a band that the tones are in."""
    return replace(silentcipher, hparams=replace(silentcipher.hparams, band=32), message_decoder=_ToneReader())
