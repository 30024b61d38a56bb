"""`hparams.yaml` of a SilentCipher checkpoint, checked: sizes, and the variants of the scheme that are built here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator, Field, Strict, TypeAdapter, ValidationError

from csm_bundle.checked_json import Positive, first_problem, needed, refuse
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
# An infinite ratio leaves no mark.
_Decibels = Annotated[float, Strict(), Field(allow_inf_nan=False), needed("a number of decibels is needed")]


@dataclass(frozen=True, slots=True)
class Hparams:
    """Sizes of the networks and of the transform they work on. Aliases are the file's keys."""

    sample_rate_hz: Annotated[Positive, Field(validation_alias="SR")]
    n_fft: Annotated[Positive, Field(validation_alias="N_FFT")]
    hop: Annotated[Positive, Field(validation_alias="HOP_LENGTH")]  # samples, half of n_fft
    band: Annotated[Positive, Field(validation_alias="message_band_size")]  # lowest bins, which carry the message
    enc_layers: Annotated[Positive, Field(validation_alias="enc_n_layers")]
    dec_layers: Annotated[Positive, Field(validation_alias="dec_c_n_layers")]
    sdr_db: Annotated[_Decibels, Field(validation_alias="message_sdr")]  # of the marked audio
    # Of the message decoder. The published file leaves these to the package's defaults.
    reader_channels: Annotated[Positive, Field(validation_alias="dec_m_channel_dim")] = 128
    reader_layers: Annotated[Positive, Field(validation_alias="dec_m_num_layers")] = 10

    @property
    def num_bins(self) -> int:
        return self.n_fft // 2 + 1


def _fitting(hparams: Hparams) -> Hparams:
    if hparams.n_fft != 2 * hparams.hop:
        rule = f"half of N_FFT, which is {hparams.n_fft}, is needed"
        raise refuse(rule, "HOP_LENGTH", given=hparams.hop)
    if hparams.band > hparams.num_bins:
        raise refuse(f"at most {hparams.num_bins} bins are there", "message_band_size", given=hparams.band)
    return hparams


_HPARAMS: TypeAdapter[Hparams] = TypeAdapter(Annotated[Hparams, AfterValidator(_fitting)])


def read_hparams(path: Path) -> Hparams:
    """Raises CheckpointError naming the file and the first key that is missing or not supported."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: holds {type(values).__name__}; a mapping is needed.")
    for key, wanted in _VARIANT.items():
        if key not in values:
            raise CheckpointError(f"{path}: key {key!r} is missing.")
        if values[key] != wanted:
            raise CheckpointError(f"{path}: {key} is {values[key]}; only {wanted} is supported.")
    try:
        return _HPARAMS.validate_python(values)
    except ValidationError as error:
        raise CheckpointError(f"{path}: {first_problem(error)}.") from None
