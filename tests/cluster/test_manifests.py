"""An API server takes the manifests as they are: validation, admission and defaults, not the schemas alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from recipes.images.catalog import ROOT
from tests.cluster.cluster import Cluster, KubectlError

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

# Components of Kubernetes' own kinds. The others need an operator's kinds.
OWN_KINDS = ["autoscaling-hpa", "tokens", "tracing", "weights"]


@pytest.mark.parametrize("overlay", ["gpu", "cpu-demo"])
def test_api_server_accepts_the_overlay(deployed: Cluster, overlay: str) -> None:
    _accepted(deployed, ROOT / "deploy" / "kubernetes" / "overlays" / overlay)


@pytest.mark.parametrize("component", OWN_KINDS)
def test_api_server_accepts_the_component(deployed: Cluster, tmp_path: Path, component: str) -> None:
    folder = tmp_path / "kubernetes"
    shutil.copytree(ROOT / "deploy" / "kubernetes", folder)
    with (folder / "overlays" / "gpu" / "kustomization.yaml").open("a") as file:
        file.write(f"components:\n  - ../../components/{component}\n")
    _accepted(deployed, folder / "overlays" / "gpu")


def test_an_unknown_field_is_refused(deployed: Cluster, tmp_path: Path) -> None:
    """So the tests above can fail."""
    folder = tmp_path / "kubernetes"
    shutil.copytree(ROOT / "deploy" / "kubernetes", folder)
    file = folder / "base" / "codec.yaml"
    file.write_text(file.read_text().replace("minReadySeconds", "minReadySecond"))
    with pytest.raises(KubectlError, match="minReadySecond"):
        _accepted(deployed, folder / "overlays" / "gpu")


def _accepted(cluster: Cluster, overlay: Path) -> None:
    """Nothing is stored: a dry run in the tests' namespace, without the parts that clash with what runs there."""
    manifests = list(yaml.safe_load_all(cluster.kubectl("kustomize", str(overlay))))
    for manifest in manifests:
        if "namespace" in manifest["metadata"]:
            manifest["metadata"]["namespace"] = cluster.namespace
        manifest["metadata"]["name"] += "-dry" if manifest["kind"] != "Namespace" else ""
    written = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    answer = cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "--filename", "-", written=written)
    assert answer.count("(server dry run)") == len(manifests)
    warnings = [line for line in answer.splitlines() if line.startswith("Warning")]
    assert not warnings
