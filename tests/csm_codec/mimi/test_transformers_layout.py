"""Loading Mimi from the files that the transformers library writes, against the library's own module."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from csm_bundle.errors import CheckpointError
from csm_codec.mimi.loader import load_mimi
from tests.support.cost.absent import UNUSED_BY_TRANSFORMERS, absent

if TYPE_CHECKING:
    from transformers import MimiModel

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_filters": 4,
    "vector_quantization_hidden_dimension": 8,
    "codebook_dim": 8,
    "codebook_size": 64,
    "num_quantizers": 4,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "intermediate_size": 64,
    "sliding_window": 20,
    "upsample_groups": 32,
    "attn_implementation": "eager",
}


@pytest.fixture(scope="module")
def theirs() -> MimiModel:
    """The library's module with random weights, whose codebooks and layer scales let every part affect the sound."""
    with absent(*UNUSED_BY_TRANSFORMERS):
        from transformers import MimiConfig, MimiModel  # takes seconds

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        model = MimiModel(MimiConfig(**SIZES)).eval()
        for name, value in model.state_dict().items():
            if name.endswith("embed_sum"):
                value.normal_()
            elif name.endswith("cluster_usage"):
                value.uniform_(0.5, 2.0)
            elif name.endswith("layer_scale.scale"):
                value.fill_(0.3)
    return model


@pytest.fixture(scope="module")
def csm_folder(theirs: MimiModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards and their index as of a CSM, with the model's other tensors beside those of the codec."""
    folder = tmp_path_factory.mktemp("csm")
    state = {f"codec_model.{key}": value.contiguous() for key, value in theirs.state_dict().items()}
    state["lm_head.weight"] = torch.zeros(3, 2)
    names = sorted(state)
    weight_map = {}
    for shard in range(2):
        file = f"transformers-{shard + 1:05d}-of-00002.safetensors"
        save_file({name: state[name] for name in names[shard::2]}, folder / file)
        weight_map.update(dict.fromkeys(names[shard::2], file))
    (folder / "transformers.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps({"model_type": "csm", "codec_config": theirs.config.to_dict()}))
    return folder


@pytest.fixture(scope="module")
def mimi_only_folder(theirs: MimiModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf_mimi")
    theirs.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("layout", ["csm_folder", "mimi_only_folder"])
def test_decodes_and_encodes_as_the_module_that_wrote_the_files(
    theirs: MimiModel, layout: str, request: pytest.FixtureRequest
) -> None:
    mimi = load_mimi(request.getfixturevalue(layout))
    codes = torch.randint(64, (2, 4, 30), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs.decode(codes).audio_values
        assert expected is not None
        assert float((mimi.model.decode(codes) - expected).abs().max() / expected.std()) < 1e-5
        their_codes = theirs.encode(expected).audio_codes
        assert their_codes is not None and torch.equal(mimi.model.encode(expected), their_codes)
    assert (mimi.identity.codebook_count, mimi.identity.codebook_size) == (4, 64)
    assert (mimi.identity.frame_sample_count, mimi.identity.sample_rate_hertz) == (1920, 24000)


def test_identity_is_that_of_the_codec_whatever_lies_beside_it(
    csm_folder: Path, mimi_only_folder: Path, tmp_path: Path
) -> None:
    expected = load_mimi(mimi_only_folder).identity
    assert load_mimi(csm_folder).identity == expected
    _copy(mimi_only_folder, tmp_path)
    _change_tensors(tmp_path, lambda state: state["decoder.layers.0.conv.bias"].add_(1))
    assert load_mimi(tmp_path).identity.weights_digest != expected.weights_digest


def _copy(source: Path, target: Path) -> None:
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())


def _change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


def _change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


_Q = "encoder_transformer.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: _change_tensors(f, lambda s: s.pop(_Q)), f"model.safetensors: key {_Q} is missing"),
        (lambda f: _change_tensors(f, lambda s: s.update(extra=torch.zeros(1))), "key extra is unexpected"),
        (
            lambda f: _change_tensors(f, lambda s: s.update({_Q: torch.zeros(2, 32)})),
            rf"{_Q} has shape \(2, 32\); \(32, 32\) is needed",
        ),
        (lambda f: (f / "model.safetensors").write_bytes(b"junk"), "cannot be read as safetensors"),
        (lambda f: (f / "model.safetensors").unlink(), "holds no weights; one of transformers.safetensors.index.json"),
        (lambda f: _change_config(f, num_filters=None), "key 'num_filters' of the Mimi is missing"),
        (lambda f: _change_config(f, use_conv_shortcut=True), "use_conv_shortcut is True; only False is supported"),
        (lambda f: _change_config(f, num_key_value_heads=2), "num_key_value_heads is 2; only 4 is supported"),
        (lambda f: _change_config(f, sliding_window="all"), "sliding_window is 'all'; a number of steps is needed"),
        (lambda f: _change_config(f, model_type="encodec"), "model_type is 'encodec'; allowed are 'mimi' and 'csm'"),
        (lambda f: _change_config(f, rope_parameters="default"), "config.json: 'str' object has no attribute 'get'"),
        (lambda f: _change_config(f, compress=0), "config.json: describes no Mimi"),
        (lambda f: _change_config(f, model_type="csm"), "codec_config, which describes the Mimi"),
    ],
)
def test_wrong_files_name_file_and_key(
    mimi_only_folder: Path, tmp_path: Path, change: Callable[[Path], Any], message: str
) -> None:
    _copy(mimi_only_folder, tmp_path)
    change(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        load_mimi(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("[]", "is not a safetensors index"),
        ('{"weight_map": {"codec_model.a": "../x"}}', "names the shard ../x, which is not beside it"),
        ('{"weight_map": {"codec_model.a": "gone.safetensors"}}', "gone.safetensors: cannot be read"),
        (
            '{"weight_map": {"codec_model.a": "transformers-00001-of-00002.safetensors"}}',
            "the index says that codec_model.a is in it, but it is not",
        ),
        ('{"weight_map": {"lm_head.weight": "gone.safetensors"}}', "holds no Mimi: no key begins with 'codec_model.'"),
    ],
)
def test_wrong_index_is_refused(csm_folder: Path, tmp_path: Path, index: str, message: str) -> None:
    _copy(csm_folder, tmp_path)
    (tmp_path / "transformers.safetensors.index.json").write_text(index)
    with pytest.raises(CheckpointError, match=message):
        load_mimi(tmp_path)


def test_a_checkpoint_without_a_codec_is_refused_with_the_reason(csm_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((csm_folder / "config.json").read_bytes())
    save_file({"backbone.norm.scale": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="model.safetensors: holds no Mimi"):
        load_mimi(tmp_path)
