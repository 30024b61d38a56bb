"""docs/compatibility.md names reasons, targets and files that exist."""

from __future__ import annotations

import re
from pathlib import Path


def test_reasons_and_targets_exist(repository: Path) -> None:
    page = (repository / "docs" / "compatibility.md").read_text(encoding="utf-8")
    errors = (repository / "docs" / "errors.md").read_text(encoding="utf-8")
    reasons = [word for word in re.findall(r"`([A-Z_]{4,})`", page) if word != "FILE"]
    assert len(reasons) >= 4 and all(f"| `{reason}` |" in errors for reason in reasons)
    makefile = (repository / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"`make ([a-z-]+)`", page)
    assert targets and all(f"\n{target}: " in makefile for target in targets)
    assert (repository / "protos" / "buf.yaml").read_text(encoding="utf-8").endswith("breaking:\n  use: [FILE]\n")
