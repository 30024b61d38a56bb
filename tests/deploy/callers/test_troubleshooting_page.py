"""docs/troubleshooting.md quotes sentences that the product says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SOURCES = ("services", "csm_bundle", "csm_engine", "csm_codec", "clients/python/csm_client")
ANY = "…"  # in place of what differs


def sentences(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else ANY for part in node.values)


def test_every_sentence_is_in_the_code(repository: Path) -> None:
    page = (repository / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = [row for row in re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE) if not row.startswith("--")]
    files = [path for folder in SOURCES for path in (repository / folder).rglob("*.py")]
    said = "\n".join(text for path in files for text in sentences(ast.parse(path.read_text(encoding="utf-8"))))
    assert len(quoted) > 25
    assert [sentence for sentence in quoted if sentence not in said] == []
