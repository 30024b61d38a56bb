"""The Node client lists voices."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]


def test_voices_are_listed_without_a_synthesis(real_server: Any, node: Any) -> None:
    result = node.say(real_server.target, "--list-voices")
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[:4] for line in lines] == [["speaker-0", "speaker", "0", "en"], ["speaker-1", "speaker", "1", "en"]]
    assert not node.out.exists()


def test_a_failed_listing_is_an_error(node: Any) -> None:
    result = node.say("127.0.0.1:1", "--list-voices", "--deadline-seconds", "1")
    assert result.returncode == 1
    assert result.stderr and "was not written" not in result.stderr
