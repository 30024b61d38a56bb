"""Every component fits every overlay that it is for; what comes out fits the schemas and starts the programs."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from services.common.settings import ProgramSettings, StageSettings, load_settings
from services.http.settings import HttpSettings
from tests.deploy.components.conftest import Manifest, Render

SCHEMAS = "1.31"
COMPONENTS = [
    "autoscaling-hpa",
    "autoscaling-keda",
    "gateway-api",
    "kept-voices",
    "pod-monitor",
    "stage-tls",
    "tokens",
    "tracing",
    "weights",
]
TOGETHER = [name for name in COMPONENTS if name != "autoscaling-keda"]
COMPOSITIONS = [(overlay, name) for overlay in ("gpu", "cpu-demo") for name in COMPONENTS]
COMPOSITIONS.remove(("cpu-demo", "weights"))  # it has none to download

# apiVersion -> the package of cloudcoil that was made from the project's own CRDs
CUSTOM = {
    "cert-manager.io/v1": "cloudcoil.models.cert_manager.v1",
    "keda.sh/v1alpha1": "cloudcoil.models.keda.v1alpha1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
}


def models(version: str) -> ModuleType:
    """The models of one API version. Importing its package would make those of all versions, thousands of them."""
    name = CUSTOM[version]
    package = name.rpartition(".")[0]
    if package not in sys.modules:
        found = importlib.util.find_spec(package)
        assert found is not None
        sys.modules[package] = importlib.util.module_from_spec(found)  # not run
    return importlib.import_module(name)


def check(document: Manifest) -> None:
    """Raises an error for a document that does not fit its kind."""
    if document["apiVersion"] in CUSTOM:
        model = getattr(models(document["apiVersion"]), document["kind"])
        known = model.model_validate(document).model_dump(mode="json", by_alias=True, exclude_unset=True)
        assert stripped(known) == stripped(document), "a field is not known"  # models drop what they do not know
    elif document["apiVersion"] != "gateway.networking.k8s.io/v1":  # test_gateway_api.py
        import kubernetes_validate

        kubernetes_validate.validate(document, SCHEMAS, strict=True)


@cache
def check_once(document: str) -> None:
    """Most documents are the same in all compositions."""
    check(json.loads(document))


@cache
def check_starts(settings_class: type[ProgramSettings], arguments: tuple[str, ...]) -> None:
    """Ends the program for a flag that it does not know."""
    load_settings(settings_class, arguments)


def stripped(value: object) -> object:
    """Without what is unset, so that both sides compare."""
    if isinstance(value, dict):
        return {key: stripped(item) for key, item in value.items() if item is not None}
    return [stripped(item) for item in value] if isinstance(value, list) else value


def test_every_component_is_tested(repository: Path) -> None:
    folders = {path.parent.name for path in (repository / "deploy/kubernetes/components").glob("*/kustomization.yaml")}
    assert folders == set(COMPONENTS)


@pytest.mark.parametrize(
    ("overlay", "components"), [*((o, (c,)) for o, c in COMPOSITIONS), ("gpu", tuple(TOGETHER))], ids=str
)
def test_composition_fits_the_schemas_and_starts_every_stage(
    render: Render, settings_classes: Mapping[str, type[StageSettings]], overlay: str, components: tuple[str, ...]
) -> None:
    documents = render(overlay, *components)
    for document in documents:
        check_once(json.dumps(document))
        namespaced = document["kind"] not in ("Namespace", "PriorityClass")
        assert (document["metadata"].get("namespace") == "csm") is namespaced, document["metadata"]
    deployments = {d["metadata"]["name"]: d for d in documents if d["kind"] == "Deployment"}
    assert set(deployments) == {*settings_classes, "http"}
    classes: dict[str, type[ProgramSettings]] = {**settings_classes, "http": HttpSettings}
    for stage, settings_class in classes.items():
        pod = deployments[stage]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        check_starts(settings_class, tuple(container["args"]))
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("component", ["stage-tls", "autoscaling-keda", "pod-monitor"])
def test_models_would_refuse_a_misspelt_field(render: Render, component: str) -> None:
    document = next(d for d in render("gpu", component) if d["apiVersion"] in CUSTOM)
    with pytest.raises(AssertionError, match="not known"):
        check({**document, "spec": {**document["spec"], "misspelt": 1}})


def test_two_autoscalers_cannot_be_combined(render: Render) -> None:
    with pytest.raises(ValueError, match="replicas"):
        render("gpu", "autoscaling-hpa", "autoscaling-keda")


def test_demo_has_no_weights_to_download(render: Render) -> None:
    with pytest.raises(ValueError, match="--bundle|args/0"):
        render("cpu-demo", "weights")
