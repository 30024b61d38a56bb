"""csm-client as its users install it: into an empty environment, at both ends of the ranges that it declares."""

from __future__ import annotations

import re
import subprocess
import sys
import wave
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.packages, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[3]
MOST_BYTES = 1_000_000

TYPED = """
from csm.v1 import tts_pb2
from csm_client import Client, Speech

with Client("127.0.0.1:1") as client:
    speech: Speech = client.synthesize("Hello.", seed=7)
    voices: list[tts_pb2.Voice] = client.list_voices()
    client.synthesize("Hello.", sead=7)
"""


@pytest.fixture(scope="session")
def wheel() -> Path:
    found = list((ROOT / "dist").glob("csm_client-*.whl"))
    if len(found) != 1:
        pytest.fail(f"dist/ holds {len(found)} wheels of csm-client; run `make packages`")
    return found[0]


def metadata(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return archive.read(name).decode().splitlines()


def lowest(wheel: Path) -> list[str]:
    """The oldest version that the wheel allows of each package, as `name==version`."""
    needed = [line for line in metadata(wheel) if line.startswith("Requires-Dist: ") and "extra ==" not in line]
    return [re.sub(r"Requires-Dist: ([\w-]+).*>=([\d.]+).*", r"\1==\2", line) for line in needed]


@pytest.fixture(scope="session", params=["newest", "lowest"])
def environment(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that had nothing but pip before the client came."""
    folder = tmp_path_factory.mktemp(request.param)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pins = lowest(wheel) if request.param == "lowest" else []
    subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", str(wheel), *pins], check=True)
    return folder / "bin"


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs without the checkout's paths."""
    environment = {"PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_wheel_holds_client_and_stubs_and_is_small(wheel: Path) -> None:
    files = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "clients" / "python"
    wanted = {str(path.relative_to(source)) for path in source.glob("csm_client/**/*.py")}
    assert wanted == {name for name in files if name.startswith("csm_client/") and name.endswith(".py")}
    assert {
        "csm/v1/tts_pb2.pyi",
        "csm/v1/py.typed",
        "csm_client/py.typed",
        "csm_client/tts_service_config.json",
    } <= files
    assert {name.split("/")[1] for name in files if name.startswith("csm/")} == {"v1", "rvq"}
    assert wheel.stat().st_size < MOST_BYTES


def test_source_distribution_holds_the_protos(wheel: Path) -> None:
    (source,) = (ROOT / "dist").glob("csm_client-*.tar.gz")
    listed = subprocess.check_output(["tar", "tf", str(source)], text=True)
    assert "/protos/csm/v1/tts.proto" in listed and "/LICENSE" in listed and "_pb2" not in listed


def test_program_speaks_from_an_empty_environment(environment: Path, wheel: Path, server: Any, tmp_path: Path) -> None:
    version = run(environment / "csm", "--version", cwd=tmp_path)
    assert version.stdout.split() == ["csm", re.findall(r"^Version: (.*)$", "\n".join(metadata(wheel)), re.M)[0]]
    said = run(environment / "csm", "say", "Hello.", "--out", "a.wav", "--target", server.target, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getframerate() == 24_000 and file.getnframes() > 0
    refused = run(environment / "csm", "say", "", "--out", "b.wav", "--target", server.target, cwd=tmp_path)
    # google.rpc's details are read: the field input.text is named as the command line names it.
    assert refused.returncode == 1 and "error: the text " in refused.stderr and "input.text" not in refused.stderr


def test_library_brings_neither_torch_nor_numpy(environment: Path, tmp_path: Path) -> None:
    listed = run(environment / "pip", "list", "--format=freeze", cwd=tmp_path).stdout.lower()
    assert "csm-client==" in listed and not re.search(r"^(torch|numpy)=", listed, re.MULTILINE)
    assert run(environment / "pip", "check", cwd=tmp_path).returncode == 0


def test_types_of_client_and_stubs_are_seen_by_callers(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "caller.py").write_text(TYPED)
    (tmp_path / "mypy.ini").write_text("[mypy]\n")
    checked = run(
        sys.executable, "-m", "mypy", "--python-executable", environment / "python", "caller.py", cwd=tmp_path
    )
    errors = [line for line in checked.stdout.splitlines() if "error:" in line]
    assert len(errors) == 1 and '"sead"' in errors[0], checked.stdout
