"""Bundles in repositories of the hub: a part is downloaded when it is first asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from csm_bundle.bundle import Bundle, open_bundle
from csm_bundle.errors import BundleError, HubUnavailableError
from tests.csm_bundle.hub_server import HubServer, running_hub
from tests.support.tiny.manifest import valid_manifest, write_bundle


@pytest.fixture
def server() -> Iterator[HubServer]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def open_on(server: HubServer, cache: Path, reference: str, **options: Any) -> Bundle:
    return open_bundle(reference, cache_dir=cache, endpoint=server.endpoint, **options)


def downloads(server: HubServer) -> list[str]:
    return [r.split("/", 5)[-1] for r in server.requests if r.startswith("GET /acme/")]


def test_repository_with_a_manifest_downloads_a_part_when_asked(server: HubServer, cache: Path) -> None:
    files = {
        "bundle.json": json.dumps(valid_manifest(parts={"model": "m", "mimi": "c.bin"})).encode(),
        "m/config.json": b"{}",
        "m/model.safetensors": b"w",
        "c.bin": b"c",
    }
    commit = server.repository("acme/voice").push(files)
    bundle = open_on(server, cache, "acme/voice")
    assert downloads(server) == ["bundle.json"]
    assert bundle.path("mimi").read_bytes() == b"c"
    assert downloads(server) == ["bundle.json", "c.bin"]
    assert sorted(p.name for p in bundle.path("model").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    assert commit in str(bundle.path("model"))


def test_repository_of_bare_weights_downloads_one_layout(server: HubServer, cache: Path) -> None:
    files = {
        "config.json": b"{}",
        "ckpt.pt": b"p",
        "model.safetensors": b"w",
        "transformers.safetensors.index.json": b"{}",
        "transformers-00001-of-00002.safetensors": b"1",
        "transformers-00002-of-00002.safetensors": b"2",
        "tokenizer.json": b"{}",
        "prompts/a.wav": b"RIFF",
    }
    commit = server.repository("acme/voice").push(files)
    bundle = open_on(server, cache, "hf:acme/voice")
    assert (bundle.name, bundle.version) == ("acme/voice", commit)
    assert downloads(server) == []
    bundle.path("model")
    assert sorted(downloads(server)) == ["config.json", "model.safetensors"]
    assert bundle.path("tokenizer").name == "tokenizer.json"


def test_sharded_weights_come_with_all_their_shards(server: HubServer, cache: Path) -> None:
    shards = {f"transformers-0000{n}-of-00002.safetensors": b"s" for n in (1, 2)}
    index = {"config.json": b"{}", "transformers.safetensors.index.json": b"{}"}
    server.repository("acme/voice").push({**shards, **index, "README.md": b""})
    folder = open_on(server, cache, "acme/voice").path("model")
    assert sorted(p.name for p in folder.iterdir()) == sorted({**shards, **index})


def test_mimi_may_be_in_the_model_s_repository(server: HubServer, cache: Path) -> None:
    server.repository("acme/voice").push(
        {
            "config.json": b"{}",
            "ckpt.pt": b"p",
            "model.safetensors": b"w",
            "transformers.safetensors.index.json": b"{}",
            "transformers-00001-of-00001.safetensors": b"1",
        }
    )
    parts = {"model": "hf:acme/voice", "mimi": "hf:acme/voice"}
    server.repository("acme/bundle").push({"bundle.json": json.dumps(valid_manifest(parts=parts)).encode()})
    folder = open_on(server, cache, "acme/bundle").path("mimi")
    assert sorted(file.name for file in folder.iterdir()) == [
        "config.json",
        "transformers-00001-of-00001.safetensors",
        "transformers.safetensors.index.json",
    ]
    server.repository("acme/empty").push({"README.md": b""})
    parts["mimi"] = "hf:acme/empty"
    server.repository("acme/wrong").push({"bundle.json": json.dumps(valid_manifest(parts=parts)).encode()})
    with pytest.raises(BundleError, match="hf:acme/empty@.* holds no weights named transformers.safetensors.index"):
        open_on(server, cache, "acme/wrong").path("mimi")


def test_revision_may_stand_in_the_reference_or_beside_it(server: HubServer, cache: Path) -> None:
    repository = server.repository("acme/voice")
    old = repository.push({"ckpt.pt": b"old"})
    repository.push({"ckpt.pt": b"new"})
    for bundle in (
        open_on(server, cache, f"acme/voice@{old}"),
        open_on(server, cache, "acme/voice", revision=old),
    ):
        assert (bundle.path("model") / "ckpt.pt").read_bytes() == b"old"
    with pytest.raises(BundleError, match="names a revision and so does"):
        open_on(server, cache, f"acme/voice@{old}", revision="main")


def test_repository_without_weights_is_refused(server: HubServer, cache: Path) -> None:
    server.repository("acme/empty").push({"README.md": b""})
    with pytest.raises(BundleError, match="hf:acme/empty@.* is no bundle"):
        open_on(server, cache, "acme/empty")


def test_cached_bundle_opens_offline(server: HubServer, cache: Path) -> None:
    server.repository("acme/voice").push({"ckpt.pt": b"w", "tokenizer.json": b"{}"})
    open_on(server, cache, "acme/voice").path("model")
    server.requests.clear()
    bundle = open_on(server, cache, "acme/voice", offline=True)
    assert (bundle.path("model") / "ckpt.pt").read_bytes() == b"w"
    with pytest.raises(HubUnavailableError, match="tokenizer.json"):
        bundle.path("tokenizer")
    assert server.requests == []


def test_a_folder_wins_over_a_repository_of_its_name(
    server: HubServer, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme" / "voice").mkdir(parents=True)
    write_bundle(tmp_path / "acme" / "voice", valid_manifest())
    monkeypatch.chdir(tmp_path)
    assert open_on(server, cache, "acme/voice").name == "tiny"
    with pytest.raises(BundleError, match="no repository acme/voice"):
        open_on(server, cache, "hf:acme/voice")
