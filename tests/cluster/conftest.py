"""The stages on a cluster: two replicas each of the base of deploy/kubernetes, the built-in voice, keys in Secrets.

The tests take the context in CSM_TEST_CONTEXT (`make test-cluster CONTEXT=...`), whose nodes have the images that
`make images` built. They make the namespace `csm-test` and delete it. The priority class stays.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

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
        pytest.fail("name kubectl's context: make test-cluster CONTEXT=...")
    return Cluster(context, NAMESPACE)


@pytest.fixture(scope="session")
def deployed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Every replica of every stage is ready."""
    overlay = tmp_path_factory.mktemp("overlay")
    _delete_namespace(cluster)
    try:
        cluster.kubectl("apply", "--filename", "-", written=_rendered(cluster))
        for name, size in (("watermark-keyring", 5), ("code-sealing-keyring", 32)):
            keys = {"key-1": secrets.token_hex(size)}
            cluster.secret(name, {"format": 1, "active": "key-1", "keys": keys}, overlay)
        try:
            cluster.rolled_out(*STAGES, seconds=READY_SECONDS)
        except KubectlError as error:
            pods = cluster.kubectl("describe", "pods")
            pytest.fail(f"{error}\n{pods[-6000:]}")
        yield cluster
    finally:
        _delete_namespace(cluster)


def _rendered(cluster: Cluster) -> str:
    """The overlay with the images that `make images` builds."""
    text = cluster.kubectl("kustomize", str(ROOT / "tests" / "cluster" / "overlay"))
    manifests: list[Manifest] = list(yaml.safe_load_all(text))
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            container["image"] = image_name(container["name"])
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})


def _delete_namespace(cluster: Cluster) -> None:
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=300s", seconds=330)
