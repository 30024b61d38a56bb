"""Writes a tiny SilentCipher: the published folder layout at 24 kHz, seeded random weights, cheap to run.

Its mark is noise of the right strength, which only trained networks could detect.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from csm_codec.watermark.networks.hparams import Hparams, read_hparams
from csm_codec.watermark.networks.silentcipher import FEATURES_IN, SilentCipher, build_silentcipher


def tiny_hparams(
    *, sample_rate_hz: int = 24000, n_fft: int = 1024, band: int = 16, published_reader: bool = False
) -> dict[str, object]:
    """The published hyperparameters with smaller numbers; the names are those of hparams.yaml.

    band: CPU kernels are compiled for each (csm_codec/watermark/cpu), which takes seconds; so most tests share one.
    published_reader: the message decoder has the published size, the only one that the package can load. A search of a
    few seconds of audio then takes a second or two.
    """
    reader = {} if published_reader else {"dec_m_channel_dim": 16, "dec_m_num_layers": 3}
    return {
        "SR": sample_rate_hz,
        "N_FFT": n_fft,
        "HOP_LENGTH": n_fft // 2,
        "message_band_size": band,
        "message_dim": 5,
        "message_len": 21,
        "n_messages": 1,
        "model_type": "n_msg",
        "enc_n_layers": 3,
        "dec_c_n_layers": 4,
        "message_sdr": 47,
        "ensure_negative_message": True,
        "ensure_constrained_message": False,
        "frame_level_normalization": False,
        "utterance_level_normalization": True,
        "no_normalization": False,
        **reader,
    }


def write_tiny_silentcipher(folder: Path, seed: int, *, data_parallel: bool = True, **sizes: Any) -> None:
    """Writes hparams.yaml and the three checkpoints. data_parallel: with the `module.` prefix of the published files.

    sizes: arguments of `tiny_hparams`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "hparams.yaml"
    path.write_text(yaml.safe_dump(tiny_hparams(**sizes), sort_keys=False))
    prefix = "module." if data_parallel else ""
    for name, state in _states(seed, read_hparams(path)).items():
        torch.save({prefix + key: value for key, value in state.items()}, folder / f"{name}.ckpt")


@lru_cache
def _states(seed: int, hparams: Hparams) -> dict[str, dict[str, torch.Tensor]]:
    """The weights, by the name of the checkpoint. Many tests have the same."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        silentcipher = build_silentcipher(hparams)
        _settle_statistics(silentcipher)
    modules = {
        "enc_c": silentcipher.carrier_encoder,
        "dec_c": silentcipher.carrier_decoder,
        "dec_m_0": silentcipher.message_decoder,
    }
    return {name: module.state_dict() for name, module in modules.items()}


def _settle_statistics(silentcipher: SilentCipher) -> None:
    """Sets batch statistics of noise, as training would have: in eval mode, signals then keep their strength."""
    modules = (silentcipher.carrier_encoder, silentcipher.carrier_decoder, silentcipher.message_decoder)
    for module in modules:
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = 1.0
                norm.weight.uniform_(0.8, 1.2)
                norm.bias.normal_(std=0.2)
    hparams = silentcipher.hparams
    bins = min(hparams.num_bins, max(513, hparams.band))  # enough to settle on, and as many as the messages have
    frames = (1, 1, bins, 48 if bins <= 513 else 8)
    silentcipher.carrier_encoder(torch.rand(frames))
    silentcipher.carrier_decoder.main(torch.randn(1, FEATURES_IN, *frames[2:]))
    silentcipher.message_decoder(torch.rand(frames))
