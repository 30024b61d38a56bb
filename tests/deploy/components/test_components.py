"""What each component changes, compared with the programs and with the rest of the manifests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from csm_bundle.download import main as download
from csm_bundle.manifest import read_manifest
from recipes.images.catalog import image_name
from services.common.settings import StageSettings, load_settings
from tests.deploy.components.conftest import Manifest, Render

STAGES = ["gateway", "engine", "codec"]
DEPLOYMENTS = [*STAGES, "http"]


def named(documents: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [d for d in documents if (d["kind"], d["metadata"]["name"]) == (kind, name)]
    return found


def pod_of(documents: list[Manifest], stage: str) -> Manifest:
    pod: Manifest = named(documents, "Deployment", stage)["spec"]["template"]["spec"]
    return pod


def settings_of(documents: list[Manifest], classes: Mapping[str, type[StageSettings]], stage: str) -> Any:
    return load_settings(classes[stage], pod_of(documents, stage)["containers"][0]["args"])


# TLS between the stages


@pytest.mark.parametrize("overlay", ["gpu", "cpu-demo"])
def test_stage_tls_gives_each_stage_the_certificate_that_the_other_side_asks_for(
    render: Render, settings_classes: Mapping[str, type[StageSettings]], overlay: str
) -> None:
    documents = render(overlay, "stage-tls")
    gateway = settings_of(documents, settings_classes, "gateway")
    assert gateway.tls_certificate is None  # callers are served as before
    for stage in STAGES:
        certificate = named(documents, "Certificate", f"{stage}-stage-tls")["spec"]
        (volume,) = [v for v in pod_of(documents, stage)["volumes"] if v["name"] == "stage-tls"]
        (mount,) = [m for m in pod_of(documents, stage)["containers"][0]["volumeMounts"] if m["name"] == "stage-tls"]
        assert volume["secret"]["secretName"] == certificate["secretName"]
        assert named(documents, "Issuer", certificate["issuerRef"]["name"])["spec"]["ca"]
        settings = settings_of(documents, settings_classes, stage)
        prefix = "stage_tls_" if stage == "gateway" else "tls_"
        authority = "ca" if stage == "gateway" else "client_ca"
        files = [getattr(settings, prefix + name) for name in ("certificate", "key", authority)]
        assert [str(file) for file in files] == [f"{mount['mountPath']}/{f}" for f in ("tls.crt", "tls.key", "ca.crt")]
        if stage != "gateway":
            dialled = getattr(gateway, f"{stage}_target").removeprefix("dns:///").split(":")[0]
            assert dialled in certificate["dnsNames"]
            assert "server auth" in certificate["usages"]
            assert named(documents, "Service", stage)["spec"]["ports"][0]["appProtocol"] != "kubernetes.io/h2c"
    assert "client auth" in named(documents, "Certificate", "gateway-stage-tls")["spec"]["usages"]


def test_authority_signs_the_certificates_of_the_stages(render: Render) -> None:
    documents = render("gpu", "stage-tls")
    authority = named(documents, "Certificate", "stage-authority")["spec"]
    assert authority["isCA"] is True
    assert named(documents, "Issuer", "stages")["spec"]["ca"]["secretName"] == authority["secretName"]


# Tokens


def test_tokens_are_read_from_the_secret(
    render: Render, settings_classes: Mapping[str, type[StageSettings]], repository: Path
) -> None:
    documents = render("gpu", "tokens")
    settings = settings_of(documents, settings_classes, "gateway")
    (volume,) = [v for v in pod_of(documents, "gateway")["volumes"] if v["name"] == "tokens"]
    assert str(settings.auth_tokens_file) == "/etc/csm/tokens/tokens.json"
    text = (repository / "docs" / "security.md").read_text(encoding="utf-8")
    assert f"create secret generic {volume['secret']['secretName']} --from-file=tokens.json" in text


# Kept voices


@pytest.mark.parametrize("overlay", ["gpu", "cpu-demo"])
def test_kept_voices_are_in_the_database_of_the_secret(
    render: Render,
    settings_classes: Mapping[str, type[StageSettings]],
    repository: Path,
    overlay: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    documents = render(overlay, "kept-voices")
    (variable,) = pod_of(documents, "gateway")["containers"][0]["env"]
    url = "postgresql://csm:PASSWORD@db.example.com/csm?ssl=require"
    monkeypatch.setenv(variable["name"], url)
    assert settings_of(documents, settings_classes, "gateway").voices_database == url
    # In the base a flag turns voices off, and a flag overrides its variable.
    assert settings_of(render(overlay, "pod-monitor"), settings_classes, "gateway").voices_database == ""
    ports = [rule["ports"] for rule in named(documents, "NetworkPolicy", "gateway")["spec"]["egress"]]
    assert [{"protocol": "TCP", "port": 5432}] in ports
    secret = variable["valueFrom"]["secretKeyRef"]
    command = f"create secret generic {secret['name']} --from-literal={secret['key']}='{url}'"
    component = repository / "deploy/kubernetes/components/kept-voices/kustomization.yaml"
    assert command in component.read_text(encoding="utf-8")


# Autoscaling


def test_both_autoscalers_have_the_same_bounds_and_thresholds(render: Render) -> None:
    hpa, keda = render("gpu", "autoscaling-hpa"), render("gpu", "autoscaling-keda")
    for name in DEPLOYMENTS:
        scaler = named(hpa, "HorizontalPodAutoscaler", name)["spec"]
        scaled = named(keda, "ScaledObject", name)["spec"]
        assert scaler["scaleTargetRef"]["name"] == scaled["scaleTargetRef"]["name"] == name
        assert scaler["minReplicas"] == scaled["minReplicaCount"] == 2
        assert scaler["maxReplicas"] == scaled["maxReplicaCount"]
        behavior = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert scaler["behavior"] == behavior
        ours = [
            metric["pods"]["target"]["averageValue"]
            if metric["type"] == "Pods"
            else str(metric["resource"]["target"]["averageUtilization"])
            for metric in scaler["metrics"]
        ]
        assert ours == [t["metadata"].get("threshold", t["metadata"].get("value")) for t in scaled["triggers"]]


@pytest.mark.parametrize("component", ["autoscaling-hpa", "autoscaling-keda"])
def test_an_autoscaled_deployment_names_no_replicas(render: Render, component: str) -> None:
    documents = render("gpu", component)
    assert all("replicas" not in named(documents, "Deployment", name)["spec"] for name in DEPLOYMENTS)


def test_engine_grows_before_its_slots_are_all_taken(
    render: Render, settings_classes: Mapping[str, type[StageSettings]]
) -> None:
    documents = render("gpu", "autoscaling-hpa")
    metrics = named(documents, "HorizontalPodAutoscaler", "engine")["spec"]["metrics"]
    values = {m["pods"]["metric"]["name"]: float(m["pods"]["target"]["averageValue"]) for m in metrics}
    assert values["engine_active_slots"] == 0.75 * settings_of(documents, settings_classes, "engine").slots


def test_a_codec_computes_on_the_cpus_that_it_requests(
    render: Render, settings_classes: Mapping[str, type[StageSettings]]
) -> None:
    """Otherwise a node's other cores carry streams that run dry when other pods need these."""
    documents = render("gpu")
    settings = settings_of(documents, settings_classes, "codec")
    requests = pod_of(documents, "codec")["containers"][0]["resources"]["requests"]
    assert settings.threads == int(requests["cpu"])
    assert settings.slots <= 7 * settings.threads  # what a thread decodes in real time, by docs/deploy.md


def test_adapter_offers_the_metrics_that_the_autoscaler_asks_for(render: Render, repository: Path) -> None:
    metrics = named(render("gpu", "autoscaling-hpa"), "HorizontalPodAutoscaler", "engine")["spec"]["metrics"]
    rules = yaml.safe_load((repository / "deploy/prometheus/adapter-rules.yaml").read_text())["rules"]["custom"]
    assert rules[0]["seriesQuery"].startswith('{__name__=~"engine_(queue_depth|active_slots)"')
    assert {m["pods"]["metric"]["name"] for m in metrics} == {"engine_queue_depth", "engine_active_slots"}


# Monitoring


def test_pod_monitor_finds_every_metrics_port(render: Render) -> None:
    documents = render("gpu", "pod-monitor")
    monitor = named(documents, "PodMonitor", "csm")["spec"]
    for name in DEPLOYMENTS:
        template = named(documents, "Deployment", name)["spec"]["template"]
        assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["podMetricsEndpoints"]} <= ports


def test_alerts_of_the_operator_are_those_of_the_rules_file(render: Render, repository: Path) -> None:
    rules = yaml.safe_load((repository / "deploy/prometheus/rules.yaml").read_text())
    assert named(render("gpu", "pod-monitor"), "PrometheusRule", "csm")["spec"] == rules


# Gateway API: there is no package with its schemas, so names and ports are compared


def test_routes_lead_to_services_and_through_the_gateway(render: Render) -> None:
    documents = render("gpu", "gateway-api")
    gateway = named(documents, "Gateway", "speech")["spec"]
    (listener,) = gateway["listeners"]
    for kind, name in (("GRPCRoute", "gateway"), ("HTTPRoute", "http")):
        route = named(documents, kind, name)
        assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
        assert route["spec"]["parentRefs"] == [{"name": "speech", "sectionName": listener["name"]}]
        for host in route["spec"]["hostnames"]:
            assert host.endswith(listener["hostname"].removeprefix("*"))
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                ports = named(documents, "Service", backend["name"])["spec"]["ports"]
                assert backend["port"] in [port["port"] for port in ports]


def test_grpc_route_lets_every_public_service_through(render: Render, repository: Path) -> None:
    (rule,) = named(render("gpu", "gateway-api"), "GRPCRoute", "gateway")["spec"]["rules"]
    passed = {match["method"]["service"] for match in rule["matches"]}
    public = {
        f"csm.v1.{line.split()[1]}"
        for proto in (repository / "protos/csm/v1").glob("*.proto")
        for line in proto.read_text().splitlines()
        if line.startswith("service ")
    }
    assert public <= passed


# Weights


def test_weights_are_downloaded_where_offline_stages_look_for_them(
    render: Render, settings_classes: Mapping[str, type[StageSettings]]
) -> None:
    documents = render("gpu", "weights")
    pod = named(documents, "Job", "weights")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["python", "-m", download.__module__]
    assert container["image"].startswith("registry.example.com/csm-codec:")
    paths = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    for stage in ("engine", "codec"):
        settings = settings_of(documents, settings_classes, stage)
        assert settings.offline and settings.bundle == container["args"][0] == paths["bundle"]
        (stage_container,) = pod_of(documents, stage)["containers"]
        assert paths.items() <= {m["name"]: m["mountPath"] for m in stage_container["volumeMounts"]}.items()
        assert "env" not in stage_container  # no token
        assert "egress" not in named(documents, "NetworkPolicy", stage)["spec"]  # no internet


def test_bundle_of_the_component_is_the_published_one_with_commits(repository: Path, tmp_path: Path) -> None:
    text = (repository / "deploy/kubernetes/components/weights/bundle.json").read_text()
    unpinned = text.replace("@COMMIT-OF-CSM-1B", "").replace("@COMMIT-OF-MOSHIKO", "")
    unpinned = unpinned.replace("@COMMIT-OF-SILENTCIPHER", "").replace("COMMIT-OF-CSM-1B", "main")
    assert json.loads(unpinned) == json.loads((repository / "bundles/csm-1b/bundle.json").read_text())
    (tmp_path / "bundle.json").write_text(text)
    assert read_manifest(tmp_path / "bundle.json").parts


# Base and overlays


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_two_replicas_that_spread_over_nodes_with_priority(render: Render, name: str) -> None:
    documents = render("gpu", "pod-monitor")
    deployment = named(documents, "Deployment", name)
    pod = pod_of(documents, name)
    assert deployment["spec"]["replicas"] == 2
    assert named(documents, "PriorityClass", pod["priorityClassName"])["value"] <= 1_000_000_000
    keys = [constraint["topologyKey"] for constraint in pod["topologySpreadConstraints"]]
    assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    for constraint in pod["topologySpreadConstraints"]:
        assert constraint["labelSelector"] == deployment["spec"]["selector"]


def test_drain_of_a_node_evicts_pods_that_are_not_ready(render: Render) -> None:
    """No gateway and no HTTP server is ready once the only engine is evicted, which may have no other node."""
    budgets = [document for document in render("gpu", "pod-monitor") if document["kind"] == "PodDisruptionBudget"]
    assert sorted(budget["metadata"]["name"] for budget in budgets) == sorted(DEPLOYMENTS)
    assert {budget["spec"].get("unhealthyPodEvictionPolicy") for budget in budgets} == {"AlwaysAllow"}


def test_demo_needs_no_secret_no_volume_and_no_download(
    render: Render, settings_classes: Mapping[str, type[StageSettings]], repository: Path
) -> None:
    documents = render("cpu-demo", "pod-monitor")
    assert not [d for d in documents if d["kind"] == "PersistentVolumeClaim"]
    for name in DEPLOYMENTS:
        pod = pod_of(documents, name)
        assert all(set(volume) == {"name", "emptyDir"} for volume in pod["volumes"]), name
        assert not pod["containers"][0].get("env")
    for stage in ("engine", "codec"):
        bundle = repository / settings_of(documents, settings_classes, stage).bundle
        assert all(isinstance(part, str) for part in read_manifest(bundle / "bundle.json").parts.values())
    for stage, setting in (("codec", "watermark_keyring"), ("gateway", "code_sealing_keyring")):
        file = getattr(settings_of(documents, settings_classes, stage), setting)
        mounts = pod_of(documents, stage)["containers"][0]["volumeMounts"]
        assert str(file.parent) in [mount["mountPath"] for mount in mounts]  # writable: the file is made there


def test_demo_takes_the_images_under_the_names_that_make_images_gives_them(render: Render) -> None:
    """Without a registry in its name an image would be looked for on Docker Hub."""
    documents = render("cpu-demo", "pod-monitor")
    images = [pod_of(documents, name)["containers"][0]["image"] for name in DEPLOYMENTS]
    assert images == [image_name(name) for name in DEPLOYMENTS]
