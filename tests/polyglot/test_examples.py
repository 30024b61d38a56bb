"""The example programs in C++, Go, Java and Ruby: stubs made from the protos, compiled, run against a server.

They need Debian's packages (docs/stubs.md) and are skipped where those are missing.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_deployment import fake_deployment
from tests.support.fake_stages import FRAME_SAMPLES

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(400)]

REPOSITORY = Path(__file__).parents[2]
PROTOS = ["csm/rvq/v1/rvq.proto", "csm/v1/tts.proto"]
EXAMPLES = REPOSITORY / "clients" / "examples"
DEBIAN_JARS = Path("/usr/share/java")
JARS = (  # what Debian's grpc-java needs at run time, without versions
    *("grpc-api", "grpc-context", "grpc-core", "grpc-netty", "grpc-protobuf", "grpc-protobuf-lite", "grpc-stub"),
    *("protobuf", "guava", "perfmark-api", "geronimo-annotation-1.3-spec", "jsr305"),
    *("netty-buffer", "netty-codec", "netty-codec-http", "netty-codec-http2", "netty-common", "netty-handler"),
    *("netty-resolver", "netty-transport", "netty-transport-native-unix-common"),
)
DEBIAN_GO_LIBRARIES = Path("/usr/share/gocode")


def need(*programs: str) -> None:
    missing = [name for name in programs if not shutil.which(name)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (docs/stubs.md names the packages)")


def run(command: list[str], text: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """text: what the program reads from its standard input"""
    env: Mapping[str, str] = {**os.environ, **environment}
    return subprocess.run(command, input=text, env=env, capture_output=True, timeout=300, check=False)


def make(command: list[str], **environment: str) -> None:
    result = run(command, b"", **environment)
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


@pytest.fixture
def cpp_program(tmp_path: Path) -> list[str]:
    need("g++", "protoc", "grpc_cpp_plugin", "pkg-config")
    plugin = f"--plugin=protoc-gen-grpc={shutil.which('grpc_cpp_plugin')}"
    make(["protoc", f"-I{REPOSITORY}/protos", plugin, f"--cpp_out={tmp_path}", f"--grpc_out={tmp_path}", *PROTOS])
    program, sources = tmp_path / "say", [str(path) for path in tmp_path.rglob("*.cc")]
    flags = subprocess.check_output(["pkg-config", "--cflags", "--libs", "grpc++", "protobuf"], text=True).split()
    main = str(EXAMPLES / "cpp" / "say.cc")
    make(["g++", "-std=c++17", f"-I{tmp_path}", "-o", str(program), main, *sources, *flags, "-pthread"])
    return [str(program)]


@pytest.fixture
def java_program(tmp_path: Path) -> list[str]:
    need("java", "javac", "protoc", "grpc_java_plugin")
    missing = [name for name in JARS if not (DEBIAN_JARS / f"{name}.jar").is_file()]
    if missing:
        pytest.skip(f"no {', '.join(missing)} in {DEBIAN_JARS} (docs/stubs.md names the packages)")
    plugin = f"--plugin=protoc-gen-grpc={shutil.which('grpc_java_plugin')}"
    make(["protoc", f"-I{REPOSITORY}/protos", plugin, f"--java_out={tmp_path}", f"--grpc_out={tmp_path}", *PROTOS])
    jars = ":".join(str(DEBIAN_JARS / f"{name}.jar") for name in JARS)
    sources = [str(path) for path in tmp_path.rglob("*.java")]
    main = str(EXAMPLES / "java" / "Say.java")
    make(["javac", "-nowarn", "-cp", jars, "-d", str(tmp_path / "classes"), main, *sources])
    return ["java", "-cp", f"{tmp_path / 'classes'}:{jars}", "Say"]


@pytest.fixture(params=["cpp_program", "go_program", "java_program", "ruby_program"])
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


async def test_example_says_a_text_from_standard_input_by_sentence(program: list[str]) -> None:
    async with fake_deployment() as running:
        command = [*program, running.target, "-"]
        text = "Sch\u00f6n, good morning. How are you?".encode()
        result = await asyncio.to_thread(run, command, text)
        assert result.returncode == 0, result.stderr.decode()
        texts = [call.request.segments[-1].text for call in running.engine.calls]
        assert texts == ["Sch\u00f6n, good morning.", "How are you?"]
        assert len(result.stdout) == 2 * 2 * 10 * FRAME_SAMPLES


async def test_example_says_a_text_after_the_ones_before_it(program: list[str]) -> None:
    async with fake_deployment() as running:
        result = await asyncio.to_thread(run, [*program, running.target, "Good morning.", "How are you?"])
        assert result.returncode == 0, result.stderr.decode()
        first, second = (call.request.segments for call in running.engine.calls)
        assert [segment.text for segment in first] == ["Good morning."]
        assert [segment.text for segment in second] == ["Good morning.", "How are you?"]
        assert second[0].codes.frame_count == 10
