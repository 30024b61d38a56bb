"""What docs/deploy.md tells an operator to type, and its table of ports."""

from __future__ import annotations

import re
import runpy
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from csm.rvq.v1 import rvq_pb2

from csm_codec.watermark.keys.keyring import open_keyring
from services.common.settings import StageSettings
from services.gateway.auth.code_sealing import CodeSeal


@pytest.fixture(scope="session")
def page(repository: Path) -> str:
    return (repository / "docs" / "deploy.md").read_text(encoding="utf-8")


def test_ports_are_the_defaults(page: str, settings_classes: Mapping[str, type[StageSettings]]) -> None:
    rows = re.findall(r"^\| (API|health|metrics) .*?\| (\d+) \| (\d+) \| (\d+) \|", page, re.MULTILINE)
    said = {name: [int(port) for port in ports] for name, *ports in rows}
    defaults = [settings_classes[stage].model_construct() for stage in ("gateway", "engine", "codec")]
    assert said == {
        "API": [settings.port for settings in defaults],
        "health": [settings.health_port for settings in defaults],
        "metrics": [settings.metrics_port for settings in defaults],
    }


def test_the_page_of_settings_is_generated_from_the_classes(repository: Path) -> None:
    made = runpy.run_path(str(repository / "docs" / "settings_page.py"))["page"]()
    assert (repository / "docs" / "settings.md").read_text(encoding="utf-8") == made, "run `make settings-page`"


def test_the_page_of_settings_has_defaults_bounds_and_former_names(repository: Path) -> None:
    lines = (repository / "docs" / "settings.md").read_text(encoding="utf-8").splitlines()
    (row,) = [line for line in lines if line.startswith("| `--max-playout-lead-seconds`")]
    assert row.startswith("| `--max-playout-lead-seconds` | `0.0` | from 0 to 600 | Seconds of speech")
    assert sum("`--max-lead` (`--max-playout-lead-seconds`)" in line for line in lines) == 1


def test_keyring_command_makes_a_keyring(page: str, tmp_path: Path) -> None:
    (command,) = re.findall(r"^ *(printf .*) > keyring\.json$", page, re.MULTILINE)
    (tmp_path / "keyring.json").write_bytes(subprocess.check_output(["bash", "-c", command]))
    assert open_keyring(tmp_path / "keyring.json").active.id == "key-1"


def test_sealing_command_makes_keys_that_seal(page: str, tmp_path: Path) -> None:
    (command,) = re.findall(r"^ *(printf .*) > sealing\.json$", page, re.MULTILINE)
    (tmp_path / "sealing.json").write_bytes(subprocess.check_output(["bash", "-c", command]))
    codes, codec = rvq_pb2.CodeFrames(frame_count=1, codes=b"ab"), rvq_pb2.CodecIdentity(name="mimi")
    seal = CodeSeal(tmp_path / "sealing.json")
    assert seal.open(seal.seal(codes, codec), codec) == codes


def test_secrets_are_made_before_the_stages_that_read_them(page: str, repository: Path) -> None:
    """An engine that began without the hub's token would be replaced by a rollout, which needs one more GPU."""
    manifests = [path.read_text(encoding="utf-8") for path in (repository / "deploy/kubernetes/base").glob("*.yaml")]
    secrets = re.findall(r"secretName: ([\w-]+)|secretKeyRef: {name: ([\w-]+)", "\n".join(manifests))
    needed = {name or other for name, other in secrets}
    assert len(needed) >= 3
    commands = [line.strip() for line in page.splitlines() if line.strip().startswith("kubectl ")]
    before = commands[: commands.index("kubectl apply -k deploy/kubernetes/overlays/gpu")]
    assert before[0] == "kubectl apply -f deploy/kubernetes/base/namespace.yaml"
    assert {command.split()[6] for command in before[1:] if "create secret generic" in command} == needed


def test_paths_on_the_page_exist(page: str, repository: Path) -> None:
    paths = re.findall(r"`((?:deploy|docker|tests)/[\w./-]+)`", page)
    assert len(paths) >= 4
    for path in paths:
        assert (repository / path).exists(), path
