"""Loads the published folder layout strictly, and keeps its batch statistics."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from csm_bundle.errors import CheckpointError
from csm_codec.watermark.networks.silentcipher import SilentCipher, load_silentcipher
from tests.support.tiny.silentcipher import write_tiny_silentcipher


def _change_hparams(folder: Path, **changes: Any) -> None:
    path = folder / "hparams.yaml"
    values = yaml.safe_load(path.read_text()) | changes
    path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))


def _change_state(folder: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    state = torch.load(folder / name, weights_only=True)
    change(state)
    torch.save(state, folder / name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "hparams.yaml").unlink(), "hparams.yaml: cannot be read"),
        (lambda f: (f / "hparams.yaml").write_text("- 1"), "a mapping is needed"),
        (lambda f: _change_hparams(f, SR=None), "key 'SR' is missing"),
        (lambda f: _change_hparams(f, N_FFT="many"), 'N_FFT is "many"; a whole number'),
        (lambda f: _change_hparams(f, HOP_LENGTH=100), "HOP_LENGTH is 100; half of N_FFT"),
        (lambda f: _change_hparams(f, message_len=16), "message_len is 16; only 21 is supported"),
        (lambda f: _change_hparams(f, ensure_negative_message=False), "ensure_negative_message is False"),
        (lambda f: _change_hparams(f, message_band_size=999), "message_band_size is 999; at most 129"),
        (lambda f: _change_hparams(f, message_sdr=float("inf")), "message_sdr is Infinity; a number of decibels"),
        (lambda f: _change_hparams(f, dec_m_num_layers=0), "dec_m_num_layers is 0; a whole number"),
        (
            lambda f: _change_hparams(f, dec_m_channel_dim=16),
            r"dec_m_0.ckpt: main.1.conv.weight has shape \(128, 1, 3, 3\); \(16, 1, 3, 3\) is needed",
        ),
        (lambda f: (f / "dec_c.ckpt").unlink(), "dec_c.ckpt: cannot be read"),
        (lambda f: (f / "dec_c.ckpt").write_bytes(b"junk"), "dec_c.ckpt: cannot be read"),
        (lambda f: torch.save([1], f / "dec_c.ckpt"), "dec_c.ckpt: holds list"),
        (
            lambda f: _change_state(f, "enc_c.ckpt", lambda state: state.pop("module.linear.bias")),
            "enc_c.ckpt: key linear.bias is missing",
        ),
        (
            lambda f: _change_state(f, "dec_m_0.ckpt", lambda state: state.update(extra=torch.zeros(1))),
            "dec_m_0.ckpt: key extra is unexpected",
        ),
        (
            lambda f: _change_state(f, "dec_c.ckpt", lambda s: s.update({"module.main.0.bn.bias": torch.zeros(2)})),
            r"dec_c.ckpt: main.0.bn.bias has shape \(2,\); \(96,\) is needed",
        ),
    ],
)
def test_a_wrong_folder_names_file_and_key(
    silentcipher_folder: Path, tmp_path: Path, change: Callable[[Path], Any], message: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(silentcipher_folder, folder)
    change(folder)
    with pytest.raises(CheckpointError, match=message):
        load_silentcipher(folder)


def test_files_with_and_without_the_parallel_prefix_are_the_same(tmp_path: Path) -> None:
    for name, data_parallel in (("with", True), ("without", False)):
        write_tiny_silentcipher(tmp_path / name, 3, data_parallel=data_parallel, n_fft=256)
    first, second = (load_silentcipher(tmp_path / name).carrier_decoder.state_dict() for name in ("with", "without"))
    assert all(torch.equal(first[key], second[key]) for key in second)


def test_networks_are_in_eval_mode_and_stay_as_loaded(silentcipher: SilentCipher) -> None:
    for module in (silentcipher.carrier_encoder, silentcipher.carrier_decoder, silentcipher.message_decoder):
        assert not any(part.training for part in module.modules())
    before = silentcipher.carrier_encoder.main[0].bn.running_mean.clone()
    silentcipher.carrier_encoder(torch.rand(1, 1, 129, 20))
    assert torch.equal(silentcipher.carrier_encoder.main[0].bn.running_mean, before)
    assert silentcipher.scheme == "silentcipher-24000hz-40bit"
