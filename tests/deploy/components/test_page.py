"""docs/deploy.md and docs/runbook.md on components, digests, load balancer and alerts: what they name is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from services.common.settings import ProgramSettings, StageSettings, setting_names
from services.http.settings import HttpSettings
from tests.deploy.test_dashboards import exported_names  # noqa: F401

DELAYS, LOSSES = (0, 5, 20, 50, 100), (0, 0.1, 1)


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "deploy.md").read_text(encoding="utf-8")


def yaml_blocks(page: str) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_every_component_has_a_row(page: str, repository: Path) -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|", page.split("### Components", 1)[1].split("\n## ", 1)[0], re.MULTILINE)
    assert sorted(rows) == sorted(p.name for p in (repository / "deploy/kubernetes/components").iterdir())


def test_lines_on_the_page_switch_components_on_and_pin_an_image(page: str, repository: Path, tmp_path: Path) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    components, images = (yaml.safe_load(block) for block in yaml_blocks(page))
    shutil.copytree(repository / "deploy" / "kubernetes", tmp_path / "kubernetes")
    overlay = tmp_path / "kubernetes" / "overlays" / "gpu"
    kustomization = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    others = [image for image in kustomization["images"] if image["name"] != "csm-engine"]
    changed = kustomization | components | {"images": others + images["images"]}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(changed))
    done = subprocess.run(["kubectl", "kustomize", str(overlay)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    documents = list(yaml.load_all(done.stdout, yaml.CSafeLoader))
    assert {"Certificate", "PodMonitor"} <= {document["kind"] for document in documents}
    (engine,) = [d for d in documents if (d["kind"], d["metadata"]["name"]) == ("Deployment", "engine")]
    digest = images["images"][0]["digest"]
    image = engine["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == f"registry.example.com/csm-engine@{digest}"


def test_table_of_the_network_is_the_result(page: str, repository: Path) -> None:
    rows = json.loads((repository / "bench/results/network_tiny_cpu.json").read_text())["rows"]
    by_condition = {(row["delay_ms"], row["loss_percent"]): row for row in rows}
    for delay in DELAYS:
        cells = [
            f"{row['ttfa_p50_ms']:.0f} ms; {row['with_underrun_200_ms_buffer'] * row['streams']:.0f} of 10"
            for row in (by_condition[(delay, loss)] for loss in LOSSES)
        ]
        assert f"| {delay} ms | {' | '.join(cells)} |" in page


def test_measured_memory_on_the_page_is_the_result(page: str, repository: Path) -> None:
    stages = json.loads((repository / "bench/results/network_builtin_voice_cpu.json").read_text())["stages"]
    for stage in ("gateway", "engine", "codec"):
        assert f"{stages[stage]['rss_mb']:.0f} MB" in page


@pytest.mark.parametrize("name", ["runbook.md", "sizing.md"])
def test_flags_are_flags_of_a_stage(
    repository: Path, settings_classes: Mapping[str, type[StageSettings]], name: str
) -> None:
    classes: list[type[ProgramSettings]] = [*settings_classes.values(), HttpSettings]
    known = {name.flag for settings in classes for name in setting_names(settings)}
    text = (repository / "docs" / name).read_text(encoding="utf-8")
    assert set(re.findall(r"`(--[a-z0-9-]+)", text)) <= known


def test_metrics_of_the_runbook_are_exported(repository: Path, exported_names: frozenset[str]) -> None:  # noqa: F811
    text = (repository / "docs" / "runbook.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:engine|codec|tts|http)_[a-z_]+)", text))
    histograms = {name.removesuffix("_sum") for name in exported_names}
    assert named and named <= exported_names | histograms


def test_logs_in_the_runbook_are_those_of_all_pods_or_of_a_named_one(repository: Path) -> None:
    """`kubectl logs deployment/gateway` shows one pod of several, and `kubectl logs` alone is an error."""
    text = (repository / "docs" / "runbook.md").read_text(encoding="utf-8")
    asked = re.findall(r"kubectl -n csm logs (\S+) (\S+)", text)
    assert len(asked) >= 2
    for first, second in asked:
        assert first == "POD" or (first, second.partition("=")[0]) == ("-l", "app.kubernetes.io/name")


def test_panels_of_the_runbook_are_on_the_dashboard(repository: Path) -> None:
    text = (repository / "docs" / "runbook.md").read_text(encoding="utf-8")
    panels = {p["title"] for p in json.loads((repository / "deploy/grafana/dashboard.json").read_text())["panels"]}
    named = {" ".join(name.split()) for name in re.findall(r'"([A-Z][^"]+)"', text)}
    assert named and named <= panels


def test_reasons_of_the_runbook_are_given(repository: Path) -> None:
    text = (repository / "docs" / "runbook.md").read_text(encoding="utf-8")
    source = "\n".join(p.read_text(encoding="utf-8") for p in (repository / "services").rglob("*.py"))
    reasons = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", text)) - {
        "ENGINE_LOST",
        "CODEC_LOST",
    }  # put together from two words
    assert reasons and all(f'"{reason}"' in source for reason in reasons)
