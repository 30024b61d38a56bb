"""Bundles: what bundle.json may say, and that a part is brought when it is asked for and not before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from csm_engine.bundle import DEFAULT_PARTS, Bundle, CodecIdentity, RecommendedSampling, Voice, open_bundle
from csm_engine.errors import BundleError, HubUnavailableError
from csm_engine.testing.hub_server import HubServer, running_hub

PRODUCTION = Path(__file__).parents[2] / "bundles" / "csm-1b"


def manifest(**changes: Any) -> dict[str, Any]:
    """A valid bundle.json with some keys replaced."""
    whole: dict[str, Any] = {
        "format": 1,
        "name": "tiny",
        "version": "7",
        "notice": "Untrained.",
        "parts": {"model": "model", "mimi": "mimi.safetensors", "silentcipher": "marks"},
        "codec": {
            "name": "mimi",
            "weights_digest": "sha256:00",
            "codebook_count": 32,
            "codebook_size": 2048,
            "frame_sample_count": 1920,
            "sample_rate_hertz": 24000,
        },
        "voices": [
            {"name": "ann", "speaker": 0, "language_codes": ["en"], "description": "Calm."},
            {"name": "bob", "speaker": 1},
        ],
    }
    return {**whole, **changes}


def write_bundle(folder: Path, content: dict[str, Any] | str) -> Path:
    (folder / "model").mkdir()
    (folder / "model" / "model.safetensors").write_bytes(b"w")
    (folder / "mimi.safetensors").write_bytes(b"m")
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "bundle.json").write_text(text, encoding="utf-8")
    return folder


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


def test_bundle_says_what_its_file_says(tmp_path: Path) -> None:
    bundle = open_bundle(str(write_bundle(tmp_path, manifest())))
    assert (bundle.name, bundle.version, bundle.notice) == ("tiny", "7", "Untrained.")
    assert bundle.voices == (Voice("ann", 0, ("en",), "Calm."), Voice("bob", 1, (), ""))
    assert bundle.codec == CodecIdentity("mimi", "sha256:00", 32, 2048, 1920, 24000)
    assert bundle.sampling == RecommendedSampling()
    assert bundle.path("model") == tmp_path / "model"
    assert bundle.path("mimi") == tmp_path / "mimi.safetensors"


def test_bundle_may_recommend_sampling(tmp_path: Path) -> None:
    bundle = open_bundle(str(write_bundle(tmp_path, manifest(sampling={"temperature": 0, "top_k": 20}))))
    assert bundle.sampling == RecommendedSampling(0.0, 20)


def test_missing_local_part_is_an_error_only_when_asked_for(tmp_path: Path) -> None:
    bundle = open_bundle(str(write_bundle(tmp_path, manifest())))
    with pytest.raises(BundleError, match=r'"silentcipher" of bundle tiny is missing.*marks'):
        bundle.path("silentcipher")


def test_part_that_the_file_leaves_out_is_never_replaced(tmp_path: Path) -> None:
    bundle = open_bundle(str(write_bundle(tmp_path, manifest())))
    with pytest.raises(BundleError, match='tiny does not say where its part "tokenizer" is'):
        bundle.path("tokenizer")


def test_unknown_part_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    bundle = open_bundle(str(write_bundle(tmp_path, manifest())))
    with pytest.raises(BundleError, match='no part "vocoder"; allowed are model, tokenizer'):
        bundle.path("vocoder")


VOICE = {"name": "ann", "speaker": 0}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"format": 2}, r"format is 2; 1 is the only format"),
        ({"name": ""}, r"name is \"\"; a string"),
        ({"version": 3}, r"version is 3; a string"),
        ({"voice": []}, r'the top level is "voice"; allowed keys'),
        ({"sampling": {"top_p": 1}}, r'sampling is "top_p"; allowed keys are temperature, top_k'),
        ({"sampling": {"temperature": 3}}, r"sampling.temperature is 3; a number from 0 to 2"),
        ({"sampling": {"top_k": 0}}, r"sampling.top_k is 0; a whole number of at least 1"),
        ({"parts": []}, r"parts is \[\]; an object"),
        ({"parts": {"modle": "x"}}, r'parts is "modle"; allowed keys are mimi, model'),
        ({"parts": {"model": 1}}, r"parts.model is 1; a string"),
        ({"parts": {"model": "hf:acme"}}, r'parts.model is "hf:acme"; allowed is hf:OWNER'),
        ({"voices": []}, r"voices is \[\]; at least one"),
        ({"voices": [{"name": "ann"}]}, r"voices\[0\].speaker is null; a whole number"),
        ({"voices": [VOICE, {"name": "b", "speaker": -1}]}, r"voices\[1\].speaker is -1"),
        ({"voices": [VOICE, {"name": "b", "speaker": True}]}, r"voices\[1\].speaker is true"),
        ({"voices": [VOICE, VOICE]}, r'voices\[1\].name is "ann"; each name may be used once'),
        ({"voices": [{**VOICE, "language_codes": "en"}]}, r"language_codes is \"en\"; a list"),
        ({"voices": [{**VOICE, "language_codes": [1]}]}, r"language_codes\[0\] is 1"),
        ({"codec": {"name": "mimi"}}, r"codec.codebook_count is null"),
    ],
)
def test_wrong_value_names_file_and_key(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    write_bundle(tmp_path, manifest(**changes))
    with pytest.raises(BundleError, match=key) as caught:
        open_bundle(str(tmp_path))
    assert str(tmp_path / "bundle.json") in str(caught.value)


def test_broken_json_names_file_and_line(tmp_path: Path) -> None:
    write_bundle(tmp_path, '{"format": 1,\n "name": tiny}')
    with pytest.raises(BundleError, match=r"bundle\.json, line 2, column 10: not valid JSON"):
        open_bundle(str(tmp_path))


@pytest.mark.parametrize("path", ["../other/model", "model/../../x", "/etc/passwd", "..", "a\\b"])
def test_part_outside_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    write_bundle(tmp_path, manifest(parts={"model": path}))
    with pytest.raises(BundleError, match="parts.model is .*relative path"):
        open_bundle(str(tmp_path))


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
    assert open_bundle(str(tmp_path)).path("mimi") == tmp_path / "mimi"


def test_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="neither bundle.json nor weights named .*ckpt.pt"):
        open_bundle(str(tmp_path))


def test_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="There is no folder .*nowhere"):
        open_bundle(str(tmp_path / "nowhere"))


def test_revision_of_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match='revision is "v1"'):
        open_bundle(str(write_bundle(tmp_path, manifest())), revision="v1")


def test_repository_with_a_manifest_downloads_a_part_when_asked(server: HubServer, cache: Path) -> None:
    files = {
        "bundle.json": json.dumps(manifest(parts={"model": "m", "mimi": "c.bin"})).encode(),
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


def test_mimi_may_be_the_model_repository_and_brings_the_layout_that_holds_it(server: HubServer, cache: Path) -> None:
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
    server.repository("acme/bundle").push({"bundle.json": json.dumps(manifest(parts=parts)).encode()})
    folder = open_on(server, cache, "acme/bundle").path("mimi")
    assert sorted(file.name for file in folder.iterdir()) == [
        "config.json",
        "transformers-00001-of-00001.safetensors",
        "transformers.safetensors.index.json",
    ]
    server.repository("acme/empty").push({"README.md": b""})
    parts["mimi"] = "hf:acme/empty"
    server.repository("acme/wrong").push({"bundle.json": json.dumps(manifest(parts=parts)).encode()})
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


def test_production_bundle_is_valid_and_complete() -> None:
    bundle = open_bundle(str(PRODUCTION), offline=True)
    assert bundle.parts == DEFAULT_PARTS
    assert bundle.codec is not None
    assert bundle.codec.sample_rate_hertz / bundle.codec.frame_sample_count == 12.5


def test_a_folder_wins_over_a_repository_of_its_name(
    server: HubServer, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme" / "voice").mkdir(parents=True)
    write_bundle(tmp_path / "acme" / "voice", manifest())
    monkeypatch.chdir(tmp_path)
    assert open_on(server, cache, "acme/voice").name == "tiny"
    with pytest.raises(BundleError, match="no repository acme/voice"):
        open_on(server, cache, "hf:acme/voice")
