"""The loader is strict: both layouts give the same model, and the error for a wrong file names what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from csm_bundle.errors import CheckpointError
from csm_engine.model.loader import load_model
from csm_engine.model.shapes import FLAVORS, ModelConfig
from tests.support.tiny.csm import transformers_config, write_original, write_transformers

State = dict[str, torch.Tensor]


def test_both_layouts_hold_the_same_model(tiny_config: ModelConfig, tmp_path: Path) -> None:
    written = write_original(tmp_path / "safetensors", tiny_config, seed=3)
    write_original(tmp_path / "pickle", tiny_config, seed=3, pickle=True)
    write_transformers(tmp_path / "transformers", tiny_config, seed=3, num_shards=3)
    for layout in ("safetensors", "pickle", "transformers"):
        loaded = load_model(tmp_path / layout)
        assert loaded.config == tiny_config
        for name, parameter in written.named_parameters():
            assert torch.equal(loaded.get_parameter(name), parameter), (layout, name)


def test_transformers_checkpoint_may_carry_the_codec_and_the_tied_embeddings(
    tiny_config: ModelConfig, tmp_path: Path
) -> None:
    write_transformers(tmp_path, tiny_config, seed=3, num_shards=1)
    change(tmp_path / "model-00001-of-00001.safetensors", lambda state: state | {"codec_model.x": torch.zeros(1)})
    index = tmp_path / "model.safetensors.index.json"
    values = json.loads(index.read_text())
    values["weight_map"]["codec_model.x"] = "model-00001-of-00001.safetensors"
    index.write_text(json.dumps(values))
    assert load_model(tmp_path).config == tiny_config


def change(path: Path, edit: Callable[[State], State]) -> None:
    save_file(edit(load_file(path)), path)


def without(key: str) -> Callable[[State], State]:
    return lambda state: {name: tensor for name, tensor in state.items() if name != key}


WRONG_WEIGHTS = {
    "missing": (
        without("decoder.layers.0.attn.k_proj.weight"),
        r"model\.safetensors: key decoder\.layers\.0\.attn\.k_proj\.weight is missing$",
    ),
    "unexpected": (
        lambda state: state | {"decoder.extra": torch.zeros(1), "zebra": torch.zeros(1)},
        r"key decoder\.extra is unexpected \(and 1 more\)$",
    ),
    "misshaped": (
        lambda state: state | {"projection.weight": torch.zeros(3, 4)},
        r"projection\.weight is \(3, 4\); the config asks for \(16, 32\)$",
    ),
    "rounded to whole numbers": (
        lambda state: state | {"projection.weight": state["projection.weight"].to(torch.int8)},
        r"projection\.weight is of torch\.int8; weights must be floating point$",
    ),
    "diverged": (
        lambda state: state | {"projection.weight": torch.full_like(state["projection.weight"], torch.nan)},
        r"projection\.weight holds values that are no finite numbers as torch\.float32$",
    ),
    "overflown": (
        lambda state: state | {"projection.weight": torch.full_like(state["projection.weight"], -torch.inf)},
        r"projection\.weight holds values that are no finite numbers as torch\.float32$",
    ),
}


@pytest.mark.parametrize("kind", WRONG_WEIGHTS)
def test_wrong_weights_name_the_first_wrong_key(kind: str, tiny_config: ModelConfig, tmp_path: Path) -> None:
    edit, message = WRONG_WEIGHTS[kind]
    write_original(tmp_path, tiny_config, seed=3)
    change(tmp_path / "model.safetensors", edit)
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path)


def test_broken_files_are_errors_and_never_random_weights(tiny_config: ModelConfig, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no weights; one of"):
        load_model(tmp_path)
    write_original(tmp_path, tiny_config, seed=3)
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "ckpt.pt").write_bytes(b"not a pickle")
    with pytest.raises(CheckpointError, match="cannot be read as a torch checkpoint"):
        load_model(tmp_path)


def test_weights_that_the_wanted_type_cannot_hold_are_refused(tiny_config: ModelConfig, tmp_path: Path) -> None:
    write_original(tmp_path, tiny_config, seed=3)
    large = 1e5  # float16 ends at 65,504
    change(
        tmp_path / "model.safetensors", lambda state: state | {"projection.weight": state["projection.weight"] + large}
    )
    load_model(tmp_path)
    with pytest.raises(CheckpointError, match=r"projection\.weight holds .* no finite numbers as torch\.float16$"):
        load_model(tmp_path, dtype=torch.float16)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")  # of torch 2.11
@pytest.mark.parametrize("content", [[1], {1: torch.zeros(1)}, {"a": torch.eye(2).to_sparse()}, {"model": None}])
def test_pickle_of_something_else_is_an_error(content: object, tiny_config: ModelConfig, tmp_path: Path) -> None:
    write_original(tmp_path, tiny_config, seed=3, pickle=True)
    torch.save(content, tmp_path / "ckpt.pt")
    with pytest.raises(CheckpointError, match=r"ckpt\.pt: is not a dictionary of tensors"):
        load_model(tmp_path)


def test_pickles_that_run_code_are_refused(tiny_config: ModelConfig, tmp_path: Path) -> None:
    write_original(tmp_path, tiny_config, seed=3, pickle=True)
    torch.save({"model": CallsPrint()}, tmp_path / "ckpt.pt")
    with pytest.raises(CheckpointError, match="cannot be read as a torch checkpoint"):
        load_model(tmp_path)


class CallsPrint:
    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return print, ("this must not run",)


def test_missing_shard_is_named(tiny_config: ModelConfig, tmp_path: Path) -> None:
    write_transformers(tmp_path, tiny_config, seed=3, num_shards=2)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"names the shard model-00002-of-00002\.safetensors"):
        load_model(tmp_path)


def test_index_that_names_a_wrong_shard_is_an_error(tiny_config: ModelConfig, tmp_path: Path) -> None:
    write_transformers(tmp_path, tiny_config, seed=3, num_shards=2)
    index = tmp_path / "model.safetensors.index.json"
    shards = json.loads(index.read_text())["weight_map"]
    first = min(shards)
    (other,) = set(shards.values()) - {shards[first]}
    for shard, message in (
        (other, f"{other}: the index says that .*{first}"),
        ("../x", "names the shard ../x, which is"),
    ):
        index.write_text(json.dumps({"weight_map": shards | {first: shard}}))
        with pytest.raises(CheckpointError, match=message):
            load_model(tmp_path)


@pytest.mark.parametrize(
    "content", [b"{", b"\xff", b"[]", b"{}", b'{"weight_map": ["a"]}', b'{"weight_map": {"a": 5}}']
)
def test_index_that_is_none_is_an_error(content: bytes, tiny_config: ModelConfig, tmp_path: Path) -> None:
    write_transformers(tmp_path, tiny_config, seed=3)
    (tmp_path / "model.safetensors.index.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a safetensors index with a weight_map"):
        load_model(tmp_path)


def test_published_flavors_are_csm_1b(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(
        '{"backbone_flavor": "llama-1B", "decoder_flavor": "llama-100M", "text_vocab_size": 128256,'
        ' "audio_vocab_size": 2051, "audio_num_codebooks": 32}'
    )
    config = ModelConfig.from_json(path)
    assert (config.backbone, config.depth_decoder) == (FLAVORS["llama-1B"], FLAVORS["llama-100M"])
    assert (config.codebook_size, config.max_seq_len) == (2048, 2048)


def test_flavors_count_in_a_file_of_both_dialects(tiny_config: ModelConfig, tmp_path: Path) -> None:
    flavors = {"backbone_flavor": "llama-100M", "decoder_flavor": "llama-100M", "audio_num_codebooks": 32}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(transformers_config(tiny_config) | flavors | {"audio_vocab_size": 2051}))
    assert ModelConfig.from_json(path).backbone == FLAVORS["llama-100M"]


def test_config_errors_name_file_and_key(tiny_config: ModelConfig, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read as JSON: .*No such file"):
        ModelConfig.from_json(path)
    path.write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read as JSON"):
        ModelConfig.from_json(path)
    path.write_text('{"backbone_flavor": "llama-9B", "decoder_flavor": "llama-100M"}')
    with pytest.raises(CheckpointError, match='backbone_flavor is "llama-9B"; known flavors are llama-1B, llama-100M'):
        ModelConfig.from_json(path)
    path.write_text('{"backbone_flavor": "llama-1B", "decoder_flavor": "llama-100M"}')
    with pytest.raises(CheckpointError, match="key 'text_vocab_size' is missing"):
        ModelConfig.from_json(path)
    values = transformers_config(tiny_config)
    values["rope_parameters"]["low_freq_factor"] = 1.0
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="rope wavelength limits"):
        ModelConfig.from_json(path)


@pytest.mark.parametrize("content", ["[]", "3", '"csm"', "null"])
def test_config_that_is_no_object_is_an_error(content: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json: holds .*; an object is needed"):
        ModelConfig.from_json(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope_parameters": None, "rope_scaling": None}, r"key 'rope_parameters\.rope_theta' is missing"),
        ({"num_attention_heads": 0, "head_dim": None}, "num_attention_heads is 0; a whole number of at least 1"),
        ({"head_dim": 6}, "head_dim is 6; hidden_size 32 over 4 heads is needed"),
        ({"num_key_value_heads": 3}, "num_heads 4 must be a multiple of num_kv_heads 3"),
        ({"num_codebooks": 17}, "depth decoder window 16 is shorter than 17 codebooks"),
        ({"audio_codebook_size": 68}, "codebook_size 68 must be 1..67"),
    ],
)
def test_config_that_makes_no_sense_is_an_error(
    change: dict[str, object], message: str, tiny_config: ModelConfig, tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(transformers_config(tiny_config) | change))
    with pytest.raises(CheckpointError, match=rf"config\.json: {message}"):
        ModelConfig.from_json(path)
