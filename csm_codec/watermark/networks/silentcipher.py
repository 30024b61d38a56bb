"""Loads SilentCipher's three networks from the published folder: hparams.yaml, enc_c.ckpt, dec_c.ckpt, dec_m_0.ckpt.

The module classes are the package's own (github.com/sony/silentcipher, model.py). Only that file is imported: the rest
of the package prints, keeps global state and pulls in a web server. This module neither embeds nor detects.
"""

from __future__ import annotations

import importlib.util
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from csm_bundle.errors import CheckpointError
from csm_bundle.state_dict import check_state
from csm_codec.watermark.keys.payload import NUM_SYMBOLS
from csm_codec.watermark.networks.hparams import Hparams, read_hparams

MESSAGE_DIM = 5  # four symbols and the end mark
REPEATS = 32  # copies of the carrier and of the message among the decoder's inputs
FEATURES = 32  # channels of the carrier's encoding
FEATURES_IN = FEATURES + 2 * REPEATS


@dataclass(frozen=True, slots=True)
class SilentCipher:
    """The networks in eval mode: their batch statistics stay those of the checkpoint."""

    hparams: Hparams
    carrier_encoder: Any
    carrier_decoder: Any
    message_decoder: Any

    @property
    def device(self) -> torch.device:
        return next(iter(self.carrier_encoder.parameters())).device

    @property
    def scheme(self) -> str:
        """Name of the scheme, as the API reports it."""
        return f"silentcipher-{self.hparams.sample_rate_hz}hz-{NUM_SYMBOLS * 2}bit"


def load_silentcipher(folder: Path, *, device: str | torch.device = "cpu") -> SilentCipher:
    """Raises CheckpointError naming the file and the first missing, unexpected or misshaped key."""
    hparams = read_hparams(folder / "hparams.yaml")
    silentcipher = build_silentcipher(hparams)
    parts = {
        "enc_c.ckpt": silentcipher.carrier_encoder,
        "dec_c.ckpt": silentcipher.carrier_decoder,
        "dec_m_0.ckpt": silentcipher.message_decoder,
    }
    for name, module in parts.items():
        state = _read(folder / name)
        check_state(folder / name, module.state_dict(), state)
        module.load_state_dict(state)
        module.to(device).eval().requires_grad_(False)
    return silentcipher


def build_silentcipher(hparams: Hparams) -> SilentCipher:
    """The networks with random weights, in train mode."""
    package = _package_model()
    config = Namespace(ensure_negative_message=True, no_normalization=False)
    return SilentCipher(
        hparams,
        package.Encoder(
            out_dim=FEATURES,
            n_layers=hparams.enc_layers,
            message_dim=MESSAGE_DIM,
            message_band_size=hparams.band,
            n_fft=hparams.n_fft,
        ),
        package.CarrierDecoder(config, FEATURES_IN, hparams.dec_layers, hparams.band),
        package.MsgDecoder(
            message_dim=MESSAGE_DIM,
            message_band_size=hparams.band,
            channel_dim=hparams.reader_channels,
            num_layers=hparams.reader_layers,
        ),
    )


def scale_and_shift(norm: Any, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """What a batch normalisation with fixed statistics multiplies by and adds, (channels,) each."""
    weight, bias, mean, variance = (x.to(dtype) for x in (norm.weight, norm.bias, norm.running_mean, norm.running_var))
    scale = weight * torch.rsqrt(variance + norm.eps)
    return scale, bias - mean * scale


def with_folded_inputs(weight: Tensor) -> Tensor:
    """The decoder's first filters, (outputs, inputs, bins, frames), with one input for the copies of the carrier and
    one for those of the message.
    """
    features, carrier, message = weight.split((FEATURES, REPEATS, REPEATS), dim=1)
    return torch.cat((features, carrier.sum(1, keepdim=True), message.sum(1, keepdim=True)), dim=1)


def _package_model() -> ModuleType:
    package = importlib.util.find_spec("silentcipher")
    if package is None or not package.submodule_search_locations:
        raise CheckpointError("The package silentcipher, which defines the watermark's networks, is not installed.")
    path = Path(package.submodule_search_locations[0]) / "model.py"
    spec = importlib.util.spec_from_file_location("csm_codec.watermark._silentcipher_model", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises anything at all for bytes that it does not know
        raise CheckpointError(f"{path}: cannot be read as a torch checkpoint: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: holds {type(state).__name__}; a dictionary of tensors is needed.")
    # The published files were saved from DataParallel wrappers.
    return {str(key).removeprefix("module."): value for key, value in state.items()}
