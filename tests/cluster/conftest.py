"""The stages on a cluster: two replicas each of the base of deploy/kubernetes, the built-in voice, keys in Secrets.

The tests take the context in CSM_TEST_CONTEXT (`make test-cluster KUBE_CONTEXT=...`), whose nodes have the images that
`make images` built. They make the namespace `csm-test` and delete it. The priority class stays.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from recipes.images.catalog import ROOT, image_name
from tests.cluster.cluster import Cluster, KubectlError, Manifest, context_asked_for

NAMESPACE = "csm-test"
STAGES = ("engine", "codec", "gateway", "http")
READY_SECONDS = 600.0


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    context = context_asked_for()
    if context is None:
        pytest.fail("name kubectl's context: make test-cluster KUBE_CONTEXT=...")
    return Cluster(context, NAMESPACE)


@pytest.fixture(scope="module")
def deployed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Every replica of every stage is ready."""
    with namespace(cluster):
        apply(cluster, rendered(cluster, ROOT / "tests" / "cluster" / "overlay"))
        make_keyrings(cluster, tmp_path_factory.mktemp("keyrings"))
        wait_until_ready(cluster)
        yield cluster


@contextmanager
def namespace(cluster: Cluster) -> Iterator[None]:
    """An empty namespace. It and all in it is gone afterwards."""
    _delete_namespace(cluster)
    try:
        cluster.kubectl("create", "namespace", NAMESPACE)
        yield
    finally:
        _delete_namespace(cluster)


def rendered(cluster: Cluster, overlay: Path) -> list[Manifest]:
    """The overlay in the tests' namespace, with the images that `make images` builds."""
    manifests: list[Manifest] = list(yaml.safe_load_all(cluster.kubectl("kustomize", str(overlay))))
    for manifest in manifests:
        if "namespace" in manifest["metadata"]:
            manifest["metadata"]["namespace"] = NAMESPACE
        if manifest["kind"] == "Deployment":
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            container["image"] = image_name(container["name"])
    return manifests


def apply(cluster: Cluster, manifests: list[Manifest], *options: str) -> str:
    """What kubectl prints, its warnings too. Raises KubectlError."""
    written = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    return cluster.kubectl("apply", "--filename", "-", *options, written=written)


def make_keyrings(cluster: Cluster, folder: Path) -> None:
    for name, size in (("watermark-keyring", 5), ("code-sealing-keyring", 32)):
        keyring = {"format": 1, "active": "key-1", "keys": {"key-1": secrets.token_hex(size)}}
        cluster.secret(name, {"keyring.json": json.dumps(keyring).encode()}, folder)


def wait_until_ready(cluster: Cluster) -> None:
    try:
        cluster.rolled_out(*STAGES, seconds=READY_SECONDS)
    except KubectlError as error:
        pods = cluster.kubectl("describe", "pods")
        pytest.fail(f"{error}\n{pods[-6000:]}")


def _delete_namespace(cluster: Cluster) -> None:
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=300s", seconds=330)
