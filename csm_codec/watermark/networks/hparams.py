"""`hparams.yaml` of a SilentCipher checkpoint, checked: sizes, and the variants of the scheme that are built here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from csm_bundle.errors import CheckpointError
from csm_codec.watermark.keys.payload import PERIOD

_VARIANT = {
    "n_messages": 1,
    "message_len": PERIOD,
    "message_dim": 5,
    "ensure_negative_message": True,
    "ensure_constrained_message": False,
    "frame_level_normalization": False,
    "utterance_level_normalization": True,
    "no_normalization": False,
}
_SIZES = ("SR", "N_FFT", "HOP_LENGTH", "message_band_size", "enc_n_layers", "dec_c_n_layers")
# The published file leaves these to the package's defaults.
_OPTIONAL_SIZES = {"dec_m_channel_dim": 128, "dec_m_num_layers": 10}


@dataclass(frozen=True, slots=True)
class Hparams:
    """Sizes of the networks and of the transform they work on."""

    sample_rate_hz: int
    n_fft: int
    hop: int  # samples, half of n_fft
    band: int  # lowest bins, which carry the message
    enc_layers: int
    dec_layers: int
    reader_channels: int  # of the message decoder
    reader_layers: int
    sdr_db: float  # of the marked audio

    @property
    def num_bins(self) -> int:
        return self.n_fft // 2 + 1


def read_hparams(path: Path) -> Hparams:
    """Raises CheckpointError naming the file and the first key that is missing or not supported."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: holds {type(values).__name__}; a mapping is needed.")
    for key, wanted in _VARIANT.items():
        if _get(path, values, key) != wanted:
            raise CheckpointError(f"{path}: {key} is {values[key]}; only {wanted} is supported.")
    values = _OPTIONAL_SIZES | values
    for key in (*_SIZES, *_OPTIONAL_SIZES):
        if not isinstance(_get(path, values, key), int) or values[key] < 1:
            raise CheckpointError(f"{path}: {key} is {values[key]!r}; a whole number of at least 1 is needed.")
    sdr_db = _get(path, values, "message_sdr")
    if not isinstance(sdr_db, int | float) or not math.isfinite(sdr_db):  # an infinite ratio leaves no mark
        raise CheckpointError(f"{path}: message_sdr is {sdr_db!r}; a number of decibels is needed.")
    n_fft, hop, band = values["N_FFT"], values["HOP_LENGTH"], values["message_band_size"]
    if n_fft != 2 * hop:
        raise CheckpointError(f"{path}: HOP_LENGTH is {hop}; half of N_FFT, which is {n_fft}, is needed.")
    if band > n_fft // 2 + 1:
        raise CheckpointError(f"{path}: message_band_size is {band}; at most {n_fft // 2 + 1} bins are there.")
    return Hparams(
        sample_rate_hz=values["SR"],
        n_fft=n_fft,
        hop=hop,
        band=band,
        enc_layers=values["enc_n_layers"],
        dec_layers=values["dec_c_n_layers"],
        reader_channels=values["dec_m_channel_dim"],
        reader_layers=values["dec_m_num_layers"],
        sdr_db=float(sdr_db),
    )


def _get(path: Path, values: dict[str, Any], key: str) -> Any:
    if key not in values:
        raise CheckpointError(f"{path}: key {key} is missing.")
    return values[key]
