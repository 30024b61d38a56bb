"""Downloads all parts of a bundle, and refuses bundles that are not pinned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from csm_bundle.bundle import open_bundle
from csm_bundle.download import main
from tests.csm_bundle.hub_server import running_hub
from tests.support.tiny.manifest import valid_manifest


def written(folder: Path, parts: dict[str, str]) -> str:
    (folder / "bundle.json").write_text(json.dumps(valid_manifest(parts=parts)))
    return str(folder)


def test_local_parts_need_no_commit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mimi").mkdir()
    assert main([written(tmp_path, {"mimi": "mimi"}), "--pinned"]) == 0
    assert f"mimi: {tmp_path / 'mimi'}" in capsys.readouterr().out


@pytest.mark.parametrize("revision", ["", "@main", "@v1.0", "@COMMIT-OF-CSM-1B", "@" + "a" * 39])
def test_a_branch_as_revision_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], revision: str) -> None:
    assert main([written(tmp_path, {"mimi": f"hf:acme/voice{revision}:c.bin"}), "--pinned"]) == 1
    assert "a commit of 40 hexadecimal digits is needed" in capsys.readouterr().err


def test_a_missing_part_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([written(tmp_path, {"mimi": "nowhere"})]) == 1
    assert 'The part "mimi"' in capsys.readouterr().err


def test_pinned_parts_are_found_by_an_offline_stage(tmp_path: Path) -> None:
    cache = tmp_path / "hub"
    with running_hub() as hub:
        commit = hub.repository("acme/voice").push({"c.bin": b"c"})
        bundle = written(tmp_path, {"mimi": f"hf:acme/voice@{commit}:c.bin"})
        command = [sys.executable, "-m", "csm_bundle.download", bundle, "--pinned"]
        places = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_CACHE": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(command, env=os.environ | places, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert open_bundle(bundle, offline=True, cache_dir=cache).path("mimi").read_bytes() == b"c"
