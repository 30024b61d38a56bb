"""Bundles in folders: where their parts are, with and without a bundle.json."""

from __future__ import annotations

from pathlib import Path

import pytest

from csm_bundle.bundle import DEFAULT_PARTS, open_bundle
from csm_bundle.errors import BundleError
from tests.support.tiny.manifest import valid_manifest, write_bundle

PRODUCTION = Path(__file__).parents[2] / "bundles" / "csm-1b"


def test_missing_local_part_is_an_error_only_when_asked_for(tmp_path: Path) -> None:
    bundle = open_bundle(str(write_bundle(tmp_path, valid_manifest())))
    with pytest.raises(BundleError, match=r'"silentcipher" of bundle tiny is missing.*marks'):
        bundle.path("silentcipher")


def test_a_part_missing_from_the_manifest_is_refused(tmp_path: Path) -> None:
    bundle = open_bundle(str(write_bundle(tmp_path, valid_manifest())))
    with pytest.raises(BundleError, match='tiny does not say where its part "tokenizer" is'):
        bundle.path("tokenizer")


def test_unknown_part_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    bundle = open_bundle(str(write_bundle(tmp_path, valid_manifest())))
    with pytest.raises(BundleError, match='no part "vocoder"; allowed are model, tokenizer'):
        bundle.path("vocoder")


def test_bare_weights_are_a_bundle_with_default_parts(tmp_path: Path) -> None:
    (tmp_path / "ckpt.pt").write_bytes(b"w")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "mimi").mkdir()
    (tmp_path / "mimi" / "model.safetensors").write_bytes(b"m")
    bundle = open_bundle(str(tmp_path))
    assert bundle.path("model") == tmp_path
    assert bundle.path("tokenizer") == tmp_path / "tokenizer.json"
    assert bundle.path("mimi") == tmp_path / "mimi" / "model.safetensors"
    assert bundle.parts["silentcipher"] == DEFAULT_PARTS["silentcipher"]
    assert bundle.codec is None
    assert [voice.speaker for voice in bundle.voices] == [0, 1, 2, 3]


def test_mimi_with_a_config_beside_it_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "ckpt.pt").write_bytes(b"w")
    (tmp_path / "mimi").mkdir()
    (tmp_path / "mimi" / "config.json").write_text("{}")
    (tmp_path / "mimi" / "model.safetensors").write_bytes(b"m")
    assert open_bundle(str(tmp_path)).path("mimi") == tmp_path / "mimi"


def test_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="neither bundle.json nor weights named .*ckpt.pt"):
        open_bundle(str(tmp_path))


def test_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="There is no folder .*nowhere"):
        open_bundle(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("bundles/bultin", "There is no folder bundles/bultin. hf:bundles/bultin is not in the local cache and "),
        ("bultin", 'There is no folder bultin. The bundle is "bultin"; allowed is hf:OWNER/REPO[@REVISION][:PATH].'),
        ("hf:bundles/bultin", "hf:bundles/bultin is not in the local cache and "),
    ],
)
def test_misspelt_folder_is_named_as_one(tmp_path: Path, reference: str, message: str) -> None:
    """A relative path looks like a repository."""
    with pytest.raises(BundleError) as failed:
        open_bundle(reference, offline=True, cache_dir=tmp_path)
    assert str(failed.value).startswith(message)


def test_revision_of_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match='revision is "v1"'):
        open_bundle(str(write_bundle(tmp_path, valid_manifest())), revision="v1")


def test_production_bundle_is_valid_and_complete() -> None:
    bundle = open_bundle(str(PRODUCTION), offline=True)
    assert bundle.parts == DEFAULT_PARTS
    assert bundle.codec is not None
    assert bundle.codec.sample_rate_hertz / bundle.codec.frame_sample_count == 12.5


@pytest.mark.parametrize("reference", ["~no-such-user-here/bundle", "b" * 5_000, "/" + "b" * 5_000])
def test_name_that_cannot_be_looked_up_is_an_error(reference: str) -> None:
    with pytest.raises(BundleError, match=f'The bundle "{reference[:200]}" cannot be opened: '):
        open_bundle(reference)
