"""The example programs in Go and Ruby: stubs made from the protos, compiled, run against a server.

They need Debian's packages (docs/stubs.md) and are skipped where those are missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(400)]

REPOSITORY = Path(__file__).parents[2]
PROTOS = ["csm/rvq/v1/rvq.proto", "csm/v1/tts.proto"]
EXAMPLES = REPOSITORY / "clients" / "examples"
DEBIAN_GO_LIBRARIES = Path("/usr/share/gocode")


def need(*programs: str) -> None:
    missing = [name for name in programs if not shutil.which(name)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (docs/stubs.md names the packages)")


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[bytes]:
    env: Mapping[str, str] = {**os.environ, **environment}
    return subprocess.run(command, env=env, capture_output=True, timeout=300, check=False)


def make(command: list[str], **environment: str) -> None:
    result = run(command, **environment)
    assert result.returncode == 0, result.stderr.decode()


@pytest.fixture
def go_program(tmp_path: Path) -> list[str]:
    need("go", "protoc", "protoc-gen-go", "protoc-gen-go-grpc")
    if not (DEBIAN_GO_LIBRARIES / "src" / "google.golang.org" / "grpc").is_dir():
        pytest.skip("golang-google-grpc-dev is not installed")
    source = tmp_path / "src"
    source.mkdir()
    make(["protoc", f"-I{REPOSITORY}/protos", f"--go_out={source}", f"--go-grpc_out={source}", *PROTOS])
    program = tmp_path / "say"
    make(
        ["go", "build", "-o", str(program), str(EXAMPLES / "go" / "main.go")],
        GO111MODULE="off",
        GOPATH=f"{tmp_path}:{DEBIAN_GO_LIBRARIES}",
        GOFLAGS="",
    )
    return [str(program)]


@pytest.fixture
def ruby_program(tmp_path: Path) -> list[str]:
    need("ruby", "protoc", "grpc_ruby_plugin")
    plugin = f"--plugin=protoc-gen-grpc={shutil.which('grpc_ruby_plugin')}"
    outputs = [f"--ruby_out={tmp_path}", f"--grpc_out={tmp_path}"]
    make(["protoc", f"-I{REPOSITORY}/protos", plugin, *outputs, *PROTOS])
    return ["ruby", f"-I{tmp_path}", str(EXAMPLES / "ruby" / "say.rb")]


@pytest.fixture(params=["go_program", "ruby_program"])
def program(request: pytest.FixtureRequest) -> list[str]:
    program: list[str] = request.getfixturevalue(request.param)
    return program


def test_example_streams_audio_and_tells_a_failure(program: list[str], fake_server: Any) -> None:
    result = run([*program, fake_server.target, "Hello."])
    assert result.returncode == 0, result.stderr.decode()
    assert len(result.stdout) == 13 * 1920 * 2
    assert b"END_OF_SPEECH, watermark key k1" in result.stderr
    lost = run([*program, fake_server.target, "lost"])
    assert lost.returncode != 0
    assert b"The engine was lost." in lost.stderr
    cut = run([*program, fake_server.target, "cut"])
    assert cut.returncode != 0
    assert b"without a summary" in cut.stderr
