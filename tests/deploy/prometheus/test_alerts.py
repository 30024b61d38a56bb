"""Every alert fires when it should and does not when it should not, by Prometheus' own tool; and has a runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

CASES = Path(__file__).with_name("alerts.yaml")


@pytest.fixture(scope="module")
def rules(repository: Path) -> Path:
    return repository / "deploy" / "prometheus" / "rules.yaml"


@pytest.fixture(scope="module")
def alerts(rules: Path) -> dict[str, dict[str, Any]]:
    """The alerts by name."""
    groups = yaml.safe_load(rules.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, timeout=120)


def test_alerts_fire_when_they_should_and_only_then(rules: Path, tmp_path: Path) -> None:
    cases = tmp_path / "alerts.yaml"
    cases.write_text(CASES.read_text().replace("rule_files: [RULES]", f"rule_files: [{rules}]"))
    done = promtool("test", "rules", str(cases))
    assert done.returncode == 0, done.stdout + done.stderr


def test_tool_would_find_an_alert_that_does_not_fire(rules: Path, tmp_path: Path) -> None:
    deaf = tmp_path / "rules.yaml"
    deaf.write_text(rules.read_text().replace("> 0.05", "> 0.5"))
    suite = yaml.safe_load(CASES.read_text()) | {"rule_files": [str(deaf)]}
    two = {"SpeechFails", "FirstAudioIsLate"}
    suite["tests"] = [case for case in suite["tests"] if two & {each["alertname"] for each in case["alert_rule_test"]}]
    cases = tmp_path / "alerts.yaml"
    cases.write_text(yaml.safe_dump(suite))
    done = promtool("test", "rules", str(cases))
    assert done.returncode != 0
    assert "SpeechFails" in done.stdout + done.stderr and "FirstAudioIsLate" not in done.stdout + done.stderr


def test_rules_are_right(rules: Path) -> None:
    done = promtool("check", "rules", str(rules))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_both_ways(alerts: dict[str, dict[str, Any]]) -> None:
    ways = defaultdict(set)
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for asked in case["alert_rule_test"]:
            ways[asked["alertname"]].add(bool(asked["exp_alerts"]))
    assert ways == {name: {True, False} for name in alerts}


def test_every_alert_has_its_section_in_the_runbook(alerts: dict[str, dict[str, Any]], repository: Path) -> None:
    text = (repository / "docs" / "runbook.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (\w+)$", text, re.MULTILINE)
    assert headings == list(alerts)
    for name, alert in alerts.items():
        assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
        section = text.split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]
        assert "**Means.**" in section and "**First.**" in section, name
