"""`csm_bundle.hub` against a local server with the hub's HTTP API."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from csm_bundle.errors import BundleError, GatedRepositoryError, HubUnavailableError
from csm_bundle.hub import Hub, HubReference
from tests.csm_bundle.hub_server import HubServer, running_hub

REPOSITORY = "acme/voice"
FIRST = {"config.json": b"{}", "weights/a.bin": b"a" * 1000, "weights/b.bin": b"b"}
SECOND = {**FIRST, "config.json": b'{"second": true}'}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with running_hub() as hub:
        yield hub


@pytest.fixture
def hub(server: HubServer, tmp_path: Path) -> Hub:
    return Hub(cache_dir=tmp_path / "cache", endpoint=server.endpoint, token="hf_stranger")


def fetch(hub: Hub, text: str) -> Path:
    pinned = hub.pin(HubReference.parse(text))
    return hub.fetch(pinned, hub.names(pinned))


def test_a_reference_is_split_into_repository_path_and_revision() -> None:
    parsed = HubReference.parse("hf:acme/voice@refs/pr/4:weights/a.bin")
    assert parsed == HubReference("acme/voice", "refs/pr/4", "weights/a.bin")
    assert str(parsed) == "hf:acme/voice@refs/pr/4:weights/a.bin"
    assert HubReference.parse("acme/voice") == HubReference("acme/voice")


@pytest.mark.parametrize("text", ["acme", "hf:acme", "a/b/c", "hf:/etc/x", "acme/voice@", "../x"])
def test_reference_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(BundleError, match="hf:OWNER/REPO"):
        HubReference.parse(text)


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "a\\b"])
def test_reference_that_leaves_its_repository_is_refused(path: str) -> None:
    with pytest.raises(BundleError, match="relative path"):
        HubReference.parse(f"hf:acme/voice:{path}")


@pytest.mark.parametrize("repository", ["acme--x/voice", "acme/voice-", "acme/voice.git", f"acme/{'v' * 100}"])
def test_repository_that_the_hub_could_not_have_is_named(hub: Hub, repository: str) -> None:
    with pytest.raises(BundleError, match=f"hf:{repository} names no repository"):
        hub.pin(HubReference.parse(repository))


def test_one_file_is_fetched_alone(server: HubServer, hub: Hub) -> None:
    server.repository(REPOSITORY).push(FIRST)
    path = fetch(hub, "hf:acme/voice:weights/a.bin")
    assert path.read_bytes() == FIRST["weights/a.bin"]
    assert not (path.parent / "b.bin").exists()


def test_a_folder_is_fetched_whole_and_nothing_beside_it(server: HubServer, hub: Hub) -> None:
    server.repository(REPOSITORY).push({**FIRST, "weights-old/c.bin": b"c", "weights.txt": b"t"})
    folder = fetch(hub, "hf:acme/voice:weights")
    assert sorted(p.name for p in folder.iterdir()) == ["a.bin", "b.bin"]
    assert [path.name for path in folder.parent.iterdir()] == ["weights"]


def test_revision_pin_stays_when_the_branch_moves(server: HubServer, hub: Hub) -> None:
    repository = server.repository(REPOSITORY)
    first = repository.push(FIRST)
    repository.push(SECOND)
    assert fetch(hub, f"hf:acme/voice@{first}:config.json").read_bytes() == FIRST["config.json"]
    assert fetch(hub, "hf:acme/voice:config.json").read_bytes() == SECOND["config.json"]


def test_pinned_and_cached_is_found_without_a_request(server: HubServer, hub: Hub) -> None:
    commit = server.repository(REPOSITORY).push(FIRST)
    fetch(hub, f"hf:acme/voice@{commit}:weights")
    server.requests.clear()
    fetch(hub, f"hf:acme/voice@{commit}:weights")
    assert server.requests == []


def test_offline_takes_the_cached_branch_without_a_request(server: HubServer, hub: Hub) -> None:
    server.repository(REPOSITORY).push(FIRST)
    online = fetch(hub, "hf:acme/voice:weights/a.bin")
    server.requests.clear()
    assert fetch(replace(hub, offline=True), "hf:acme/voice:weights/a.bin") == online
    assert server.requests == []


def test_offline_names_the_files_missing_from_the_cache(server: HubServer, hub: Hub) -> None:
    server.repository(REPOSITORY).push(FIRST)
    fetch(hub, "hf:acme/voice:weights/a.bin")
    offline = replace(hub, offline=True)
    with pytest.raises(HubUnavailableError, match="weights/b.bin"):
        fetch(offline, "hf:acme/voice:weights/b.bin")
    with pytest.raises(HubUnavailableError, match="acme/other.*not in the local cache"):
        fetch(offline, "hf:acme/other")


def test_hub_down_falls_back_on_the_cache(server: HubServer, hub: Hub) -> None:
    server.repository(REPOSITORY).push(FIRST)
    online = fetch(hub, "hf:acme/voice:config.json")
    server.failing = True
    assert fetch(hub, "hf:acme/voice:config.json") == online


def test_hub_down_with_empty_cache_is_an_error(tmp_path: Path) -> None:
    with running_hub() as gone:
        endpoint = gone.endpoint
    hub = Hub(cache_dir=tmp_path, endpoint=endpoint)
    with pytest.raises(HubUnavailableError, match="hf:acme/voice is not in the local cache"):
        fetch(hub, "hf:acme/voice")


@pytest.mark.parametrize("token", [None, "hf_stranger"])
def test_a_gated_repository_without_access_is_an_error_with_a_remedy(
    server: HubServer, hub: Hub, token: str | None
) -> None:
    server.repository(REPOSITORY, gated=True, tokens=("hf_friend",)).push(FIRST)
    with pytest.raises(GatedRepositoryError) as caught:
        fetch(replace(hub, token=token), "hf:acme/voice")
    message = str(caught.value)
    for advice in ("https://huggingface.co/acme/voice", "accept", "HF_TOKEN", "hf auth login"):
        assert advice in message


def test_a_gated_file_of_a_known_commit_is_an_error_with_a_remedy(server: HubServer, hub: Hub) -> None:
    commit = server.repository(REPOSITORY, gated=True).push(FIRST)
    pinned = HubReference(REPOSITORY, commit, "config.json")
    with pytest.raises(GatedRepositoryError, match="HF_TOKEN"):
        hub.fetch(pinned, frozenset({"config.json"}))


def test_gated_with_access_is_fetched(server: HubServer, hub: Hub) -> None:
    server.repository(REPOSITORY, gated=True, tokens=("hf_friend",)).push(FIRST)
    path = fetch(replace(hub, token="hf_friend"), "hf:acme/voice:config.json")
    assert path.read_bytes() == FIRST["config.json"]


def test_token_of_the_environment_is_used(server: HubServer, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.repository(REPOSITORY, gated=True, tokens=("hf_friend",)).push(FIRST)
    monkeypatch.setenv("HF_TOKEN", "hf_friend")
    assert fetch(replace(hub, token=None), "hf:acme/voice:config.json").exists()


@pytest.mark.parametrize("token", [None, "hf_stranger"])
def test_unknown_repository_is_named(server: HubServer, hub: Hub, token: str | None) -> None:
    with pytest.raises(BundleError, match="no repository acme/nothing"):
        fetch(replace(hub, token=token), "hf:acme/nothing")


def test_unknown_revision_is_named(server: HubServer, hub: Hub) -> None:
    server.repository(REPOSITORY).push(FIRST)
    with pytest.raises(BundleError, match='acme/voice has no revision "v9"'):
        fetch(hub, "hf:acme/voice@v9")


def test_a_missing_file_is_named_with_the_existing_files(server: HubServer, hub: Hub) -> None:
    server.repository(REPOSITORY).push(FIRST)
    with pytest.raises(BundleError, match=r'no "tokenizer.json".*config.json, weights/a.bin'):
        fetch(hub, "hf:acme/voice:tokenizer.json")


def test_a_full_disk_is_an_error_and_leaves_no_partial_file(server: HubServer, hub: Hub) -> None:
    content = {"a.bin": b"a" * 5_000_000}
    server.repository(REPOSITORY).push(content)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(
            BundleError, match=r"acme/voice@.* cannot be stored in the local cache: .*too large.*HF_HOME"
        ):
            fetch(hub, "hf:acme/voice")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (fetch(hub, "hf:acme/voice") / "a.bin").read_bytes() == content["a.bin"]


def test_cache_that_is_no_folder_is_an_error(server: HubServer, hub: Hub, tmp_path: Path) -> None:
    server.repository(REPOSITORY).push(FIRST)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BundleError, match=r"cannot be stored in the local cache: .*Not a directory"):
        fetch(replace(hub, cache_dir=tmp_path / "file"), "hf:acme/voice")


def test_glob_characters_in_a_file_name_are_literal(server: HubServer, hub: Hub) -> None:
    server.repository(REPOSITORY).push({"a[1].bin": b"a", "a1.bin": b"b"})
    path = fetch(hub, "hf:acme/voice:a[1].bin")
    assert path.read_bytes() == b"a" and not path.with_name("a1.bin").exists()
