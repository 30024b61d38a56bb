"""An API server takes the manifests as they are: validation, admission and defaults, not the schemas alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from recipes.images.catalog import ROOT
from tests.cluster.cluster import Cluster, KubectlError
from tests.cluster.conftest import apply, namespace, rendered

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

# Components of Kubernetes' own kinds. The others need an operator's kinds.
OWN_KINDS = ["autoscaling-hpa", "tokens", "tracing", "weights"]


@pytest.fixture(scope="module")
def empty(cluster: Cluster) -> Iterator[Cluster]:
    """Warns of pods that break the strictest of Kubernetes' pod security standards."""
    with namespace(cluster):
        cluster.kubectl("label", "namespace", cluster.namespace, "pod-security.kubernetes.io/warn=restricted")
        yield cluster


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The manifests, to be changed."""
    folder = tmp_path / "kubernetes"
    shutil.copytree(ROOT / "deploy" / "kubernetes", folder)
    return folder


@pytest.mark.parametrize("overlay", ["gpu", "cpu-demo"])
def test_api_server_accepts_the_overlay(empty: Cluster, overlay: str) -> None:
    _accepted(empty, ROOT / "deploy" / "kubernetes" / "overlays" / overlay)


@pytest.mark.parametrize("component", OWN_KINDS)
def test_api_server_accepts_the_component(empty: Cluster, copy: Path, component: str) -> None:
    with (copy / "overlays" / "gpu" / "kustomization.yaml").open("a") as file:
        file.write(f"components:\n  - ../../components/{component}\n")
    _accepted(empty, copy / "overlays" / "gpu")


def test_an_unknown_field_is_refused(empty: Cluster, copy: Path) -> None:
    """So the tests above can fail."""
    file = copy / "base" / "codec.yaml"
    file.write_text(file.read_text().replace("minReadySeconds", "minReadySecond"))
    with pytest.raises(KubectlError, match="minReadySecond"):
        _accepted(empty, copy / "overlays" / "gpu")


def test_a_pod_that_may_be_root_is_refused(empty: Cluster, copy: Path) -> None:
    """So is the security of pods seen."""
    file = copy / "base" / "codec.yaml"
    file.write_text(file.read_text().replace("runAsNonRoot: true", "runAsNonRoot: false"))
    with pytest.raises(KubectlError, match="runAsNonRoot"):
        _accepted(empty, copy / "overlays" / "gpu")


def _accepted(cluster: Cluster, overlay: Path) -> None:
    """Without a warning. Nothing is stored: it is a dry run."""
    manifests = [item for item in rendered(cluster, overlay) if item["kind"] != "Namespace"]
    answer = apply(cluster, manifests, "--dry-run=server", "--validate=strict", "--warnings-as-errors")
    assert answer.count("(server dry run)") == len(manifests)
