"""What docs/tracing.md tells an operator: the component that turns traces on, and what is in a span."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from services.common.settings import StageSettings, load_settings, setting_names

SCHEMAS = "1.31"


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "tracing.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=["gpu", "cpu-demo"])
def rendered(
    request: pytest.FixtureRequest, page: str, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """An overlay with the lines of the page."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    (lines,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    folder = tmp_path_factory.mktemp("kubernetes") / "kubernetes"
    shutil.copytree(repository / "deploy" / "kubernetes", folder)
    overlay = folder / "overlays" / request.param
    with (overlay / "kustomization.yaml").open("a") as file:
        file.write(lines)
    done = subprocess.run(["kubectl", "kustomize", str(overlay)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.load_all(done.stdout, yaml.CSafeLoader))


def test_component_sends_the_traces_of_all_stages_where_the_policy_lets_them(
    rendered: list[dict[str, Any]], settings_classes: Mapping[str, type[StageSettings]]
) -> None:
    import kubernetes_validate

    endpoints: set[str] = set()
    for stage, settings_class in settings_classes.items():
        (pod,) = [
            d["spec"]["template"] for d in rendered if (d["kind"], d["metadata"]["name"]) == ("Deployment", stage)
        ]
        assert pod["metadata"]["labels"]["app.kubernetes.io/part-of"] == "csm"  # whom the policy selects
        endpoints.add(load_settings(settings_class, pod["spec"]["containers"][0]["args"]).trace_endpoint or "")
    (endpoint,) = endpoints
    (policy,) = [d for d in rendered if (d["kind"], d["metadata"]["name"]) == ("NetworkPolicy", "traces")]
    kubernetes_validate.validate(policy, SCHEMAS, strict=True)
    (way,) = policy["spec"]["egress"]
    namespace = way["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    address = urlsplit(endpoint)
    assert address.hostname is not None and address.hostname.split(".")[1] == namespace
    assert [port["port"] for port in way["ports"]] == [address.port]
    assert policy["metadata"]["namespace"] == "csm"


def test_flags_on_the_page_are_flags(page: str) -> None:
    flags = set(re.findall(r"`(--[a-z-]+)`", page))
    assert flags == {name.flag for name in setting_names(StageSettings) if name.field.startswith("trace_")}


def test_events_and_attributes_on_the_page_are_made(page: str, repository: Path) -> None:
    calls = [
        call
        for path in (repository / "services").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("logs.annotate", "spans.event")
    ]
    events = {str(call.args[0].value) for call in calls if call.args and isinstance(call.args[0], ast.Constant)}
    assert events == {"first audio", "stage lost", "stream resumed", "admitted", "first frames"}
    assert all(event in page for event in events)
    made = {keyword.arg for call in calls for keyword in call.keywords}
    assert set(re.findall(r"`csm\.(\w+)`", page)) - {"request_id", "reason"} == made - {"labels"}
