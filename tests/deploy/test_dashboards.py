"""Dashboard and alerts ask for metrics that the stages really have."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

SUFFIXES = {"Counter": ["_total"], "Gauge": [""], "Histogram": ["_bucket", "_sum", "_count"]}


@pytest.fixture(scope="session")
def exported_names(repository: Path) -> frozenset[str]:
    """Every time series that a `metrics.py` declares. The files are read, not imported: the engine's loads torch."""
    names = set()
    for file in repository.glob("services/**/metrics.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SUFFIXES:
                names |= {ast.literal_eval(node.args[0]) + suffix for suffix in SUFFIXES[node.func.id]}
    return frozenset(names)


def series(expression: str) -> set[str]:
    """Names of the time series in a PromQL expression."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(by|without)\s*\([^)]*\)", " ", expression)
    return set(re.findall(r"\b[a-z]+_[a-z_]+\b(?!\s*\()", bare))


def dashboard_expressions(repository: Path) -> Iterator[str]:
    dashboard = json.loads((repository / "deploy" / "grafana" / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def alert_expressions(repository: Path) -> Iterator[str]:
    rules = yaml.safe_load((repository / "deploy" / "prometheus" / "rules.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def test_series_are_found_in_expressions() -> None:
    expression = 'histogram_quantile(0.9, sum by (le) (rate(a_b_bucket{c_d="e_f"}[5m]))) / sum(g_h)'
    assert series(expression) == {"a_b_bucket", "g_h"}


@pytest.mark.parametrize("expressions", [dashboard_expressions, alert_expressions])
def test_every_series_asked_for_is_exported(
    repository: Path, exported_names: frozenset[str], expressions: Callable[[Path], Iterator[str]]
) -> None:
    for expression in expressions(repository):
        asked = series(expression)
        assert asked, expression
        assert asked <= exported_names, expression


@pytest.mark.parametrize("stage", ["gateway", "http"])
def test_every_metric_of_gateway_and_http_server_is_on_the_dashboard(repository: Path, stage: str) -> None:
    text = (repository / "services" / stage / "metrics.py").read_text()
    names = set(re.findall(r'"((?:tts|http)_[a-z_]+)"', text)) - {"tts_repairs"}  # a former name
    shown = {name for expression in dashboard_expressions(repository) for name in series(expression)}
    assert len(names) > 3
    assert {name for name in names if not any(found.startswith(name) for found in shown)} == set()
