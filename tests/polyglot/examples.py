"""Builds the example programs of clients/examples with the commands of docs/callers/languages.md.

A missing program or file skips the test.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "callers" / "languages.md"
BUILD_SECONDS = 900  # g++ on a busy machine

Commands = dict[str, list[str]]  # how each program is started, by its name


@dataclass(frozen=True)
class Language:
    """needs: programs, and files by their paths; commands: `build` is the folder of the language"""

    heading: str
    needs: str
    commands: dict[str, str]


LANGUAGES = {
    "go": Language(
        "Go",
        "go protoc protoc-gen-go protoc-gen-go-grpc /usr/share/gocode/src/google.golang.org/grpc",
        {"say": "build/say", "talk": "build/talk", "backend": "build/backend"},
    ),
    "java": Language(
        "Java",
        "java javac protoc grpc_java_plugin /usr/share/java/grpc-netty.jar /usr/share/java/protobuf.jar"
        " /usr/share/java/netty-codec-http2.jar /usr/share/java/perfmark-api.jar"
        " /usr/share/java/geronimo-annotation-1.3-spec.jar",
        {"say": "java @build/options Say", "talk": "java @build/options Talk"},
    ),
    "cpp": Language(
        "C++",
        "g++ pkg-config protoc grpc_cpp_plugin /usr/include/grpcpp/grpcpp.h",
        {"say": "build/say", "talk": "build/talk"},
    ),
    "ruby": Language(
        "Ruby",
        "ruby protoc grpc_ruby_plugin",
        {name: f"ruby -Ibuild {REPOSITORY}/clients/examples/ruby/{name}.rb" for name in ("say", "talk")},
    ),
}


def build_examples(name: str, folder: Path) -> Commands:
    """Builds the programs of a language in an empty folder."""
    language = LANGUAGES[name]
    found = [need for need in language.needs.split() if shutil.which(need) or Path(need).exists()]
    if missing := set(language.needs.split()) - set(found):
        pytest.skip(f"{', '.join(sorted(missing))} not installed (docs/callers/languages.md names the packages)")
    script = build_script(language.heading).replace(f"build/{name}", str(folder))
    done = run(["bash", "-euo", "pipefail", "-c", script])
    assert done.returncode == 0, done.stderr.decode()
    commands = language.commands.items()
    return {program: command.replace("build", str(folder)).split() for program, command in commands}


def build_script(heading: str) -> str:
    """The commands of a section of the page."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    (script,) = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return str(script)


def run(command: list[str], text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """text: standard input"""
    return subprocess.run(
        command, cwd=REPOSITORY, env=dict(os.environ), input=text, capture_output=True, timeout=BUILD_SECONDS
    )
