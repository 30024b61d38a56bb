"""`make api-reference` has every service, method, message, field and enum of the public API, and asks no other host."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from csm.rvq.v1 import rvq_pb2
from csm.v1 import tts_pb2, voices_pb2, watermark_pb2
from google.protobuf.descriptor import FileDescriptor

PUBLIC: list[FileDescriptor] = [module.DESCRIPTOR for module in (tts_pb2, voices_pb2, watermark_pb2, rvq_pb2)]


@pytest.fixture(scope="module")
def html(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by the recipe's commands, elsewhere."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("protos", "docs/api-reference"):
        shutil.copytree(repository / name, folder / name)
    makefile = (repository / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^api-reference:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    script = recipe.replace("\t@", "").replace("../../$(BIN)/", "").replace("../$(BIN)/", "")
    lines = script.replace("\\\n", "").splitlines()
    commands = "\n".join(f"({line})" for line in lines)
    path = f"PATH={Path(sys.executable).parent}:$PATH\n"
    subprocess.run(["bash", "-euc", path + commands], cwd=folder, check=True, capture_output=True, timeout=100)
    return folder / "build" / "api-reference" / "html"


def names(files: Iterable[FileDescriptor]) -> Iterator[str]:
    for file in files:
        for service in file.services_by_name.values():
            yield service.name
            yield from service.methods_by_name
        for message in file.message_types_by_name.values():
            yield message.name
            yield from message.fields_by_name
        for enum in file.enum_types_by_name.values():
            yield enum.name
            yield from enum.values_by_name


def test_everything_public_is_there_with_its_comment(html: Path) -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in html.glob("csm*.html"))
    words = set(re.findall(r"\w+", text))
    expected = set(names(PUBLIC))
    assert len(expected) > 150 and expected <= words
    assert "Synthesizes a text that is still being written" in text and "Softmax temperature; 0 is greedy." in text
    assert "EngineService" not in words


def test_pages_load_nothing_from_another_host(html: Path) -> None:
    for page in html.glob("*.html"):
        assert not re.findall(
            r"""(?:src|@import|<link[^>]*href)=?["']?\s*["']?https?:""", page.read_text(encoding="utf-8")
        )
