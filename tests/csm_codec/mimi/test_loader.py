"""Loading Mimi: strict, by the published key names; and parity with another implementation of the network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from csm_bundle.errors import CheckpointError
from csm_bundle.safetensors_files import weights_digest
from csm_codec.mimi.loader import Mimi, load_mimi
from tests.support.cost.absent import UNUSED_BY_TRANSFORMERS, absent

if TYPE_CHECKING:
    from transformers import MimiModel


def test_identity_states_the_numbers_of_the_checkpoint(mimi: Mimi, mimi_folder: Path) -> None:
    identity = mimi.identity
    assert identity.weights_digest == weights_digest(mimi_folder / "model.safetensors")
    assert identity.weights_digest.startswith("sha256:")
    assert (identity.name, identity.codebook_count, identity.codebook_size) == ("mimi", 4, 64)
    assert (identity.frame_sample_count, identity.sample_rate_hertz) == (1920, 24000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("decoder.model.0.conv.conv.weight"), "decoder.model.0.conv.conv.weight is missing"),
        (lambda state: state.update(surprise=torch.zeros(1)), "surprise is unexpected"),
        (
            lambda state: state.update({"decoder.model.0.conv.conv.bias": torch.zeros(3)}),
            r"decoder.model.0.conv.conv.bias has shape \(3,\); \(64,\) is needed",
        ),
    ],
)
def test_wrong_checkpoint_names_the_key(mimi_folder: Path, tmp_path: Path, change: Any, message: str) -> None:
    shutil.copy(mimi_folder / "config.json", tmp_path)
    state = load_file(mimi_folder / "model.safetensors")
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_mimi(tmp_path)


def test_bad_configuration_and_bad_file_are_refused(mimi_folder: Path, tmp_path: Path) -> None:
    config = json.loads((mimi_folder / "config.json").read_text())
    del config["seanet"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="key 'seanet' is missing"):
        load_mimi(tmp_path)
    config = json.loads((mimi_folder / "config.json").read_text())
    config["seanet"]["activation"] = "Tanhh"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="describes no Mimi: .*Tanhh"):
        load_mimi(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="an object is needed"):
        load_mimi(tmp_path)
    (tmp_path / "mimi.safetensors").write_bytes(b"no safetensors")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load_mimi(tmp_path / "mimi.safetensors")


def test_decodes_and_encodes_as_transformers_does(mimi: Mimi, mimi_folder: Path) -> None:
    theirs = _transformers_mimi(mimi_folder)
    codes = torch.randint(64, (2, 4, 30), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        pcm, their_pcm = mimi.model.decode(codes), theirs.decode(codes).audio_values
        assert their_pcm is not None and _difference(pcm, their_pcm) < 1e-5
        their_codes = theirs.encode(pcm).audio_codes
        assert their_codes is not None and torch.equal(mimi.model.encode(pcm), their_codes)


def _difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max() / b.std())


def _transformers_mimi(folder: Path) -> MimiModel:
    """The same weights in the transformers library's module, renamed and with its rotary order."""
    with absent(*UNUSED_BY_TRANSFORMERS):
        from transformers import MimiConfig, MimiModel  # takes seconds

    config = json.loads((folder / "config.json").read_text())
    seanet, transformer, quantizer = config["seanet"], config["transformer"], config["quantizer"]
    model = MimiModel(
        MimiConfig(  # type: ignore[call-arg]  # attn_implementation is one of its base's
            hidden_size=seanet["dimension"],
            num_filters=seanet["n_filters"],
            vector_quantization_hidden_dimension=quantizer["dimension"],
            codebook_dim=quantizer["dimension"],
            codebook_size=quantizer["bins"],
            num_quantizers=quantizer["n_q"],
            num_hidden_layers=transformer["num_layers"],
            num_attention_heads=transformer["num_heads"],
            num_key_value_heads=transformer["num_heads"],
            head_dim=transformer["d_model"] // transformer["num_heads"],
            intermediate_size=transformer["dim_feedforward"],
            sliding_window=transformer["context"],
            upsample_groups=seanet["dimension"],
            attn_implementation="eager",
        )
    )
    state = {}
    for key, value in load_file(folder / "model.safetensors").items():
        state.update(_transformers_entries(key, value, transformer["num_heads"]))
    model.load_state_dict(state, strict=True)
    return model.eval()


def _transformers_entries(key: str, value: torch.Tensor, heads: int) -> dict[str, torch.Tensor]:
    if key.endswith("in_proj_weight"):
        q, k, v = value.chunk(3)
        q, k = (_half_split_rotary(weight, heads) for weight in (q, k))
        stem = key.replace(".transformer.layers", ".layers").removesuffix("in_proj_weight")
        return {f"{stem}{name}_proj.weight": weight for name, weight in zip("qkv", (q, k, v), strict=True)}
    names = {
        ".transformer.layers": ".layers",
        "out_proj.weight": "o_proj.weight",
        "norm1": "input_layernorm",
        "norm2": "post_attention_layernorm",
        "layer_scale_1": "self_attn_layer_scale",
        "layer_scale_2": "mlp_layer_scale",
        "linear1": "mlp.fc1",
        "linear2": "mlp.fc2",
        "encoder.model": "encoder.layers",
        "decoder.model": "decoder.layers",
        ".conv.conv.conv.": ".conv.",
        ".convtr.convtr.convtr.": ".conv.",
        ".convtr.convtr.": ".conv.",
        ".conv.conv.": ".conv.",
        "rvq_first": "semantic_residual_vector_quantizer",
        "rvq_rest": "acoustic_residual_vector_quantizer",
        "quantizer.vq.layers": "quantizer.layers",
        "_codebook._initialized": "codebook.initialized",
        "_codebook.cluster_usage": "codebook.cluster_usage",
        "_codebook.embedding_sum": "codebook.embed_sum",
    }
    for ours, theirs in names.items():
        key = key.replace(ours, theirs)
    return {key: value}


def _half_split_rotary(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of q or k from pairs side by side to first halves before second halves."""
    return weight.view(heads, -1, 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)
