"""docs/callers/languages.md shows the Go function as it is in the example."""

from __future__ import annotations

import re
from pathlib import Path


def test_go_backend_streams_audio_in_ten_lines(repository: Path) -> None:
    page = (repository / "docs" / "callers" / "languages.md").read_text(encoding="utf-8")
    source = (repository / "clients" / "examples" / "go" / "backend" / "main.go").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```go\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert f"\n{shown}" in source
    _, *body, _ = shown.splitlines()
    assert len(body) == 10
