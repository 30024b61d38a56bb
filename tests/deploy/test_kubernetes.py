"""The manifests: valid against Kubernetes' own schemas, and in step with the programs' settings.

Overlays are rendered with `kubectl kustomize`, which needs no cluster; without kubectl the base files are still
checked against the schemas.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.rpc.server import StageServer
from services.common.settings import StageSettings, load_settings

SCHEMAS = "1.31"  # the oldest release that the manifests are meant for
STAGES = ["gateway", "engine", "codec"]
OVERLAYS = ["gpu", "cpu-demo"]
USER = 10001

Manifest = dict[str, Any]
SettingsClasses = Mapping[str, type[StageSettings]]


@pytest.fixture(scope="session")
def manifests(repository: Path) -> Path:
    return repository / "deploy" / "kubernetes"


@pytest.fixture(params=OVERLAYS, scope="session")
def overlay(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def rendered(manifests: Path, overlay: str) -> list[Manifest]:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed; only the base files are checked")
    command = ["kubectl", "kustomize", str(manifests / "overlays" / overlay)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return list(yaml.load_all(result.stdout, yaml.CSafeLoader))


@pytest.fixture(params=STAGES)
def stage(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def deployment(rendered: list[Manifest], stage: str) -> Manifest:
    return named(rendered, "Deployment", stage)


@pytest.fixture
def pod(deployment: Manifest) -> Manifest:
    spec: Manifest = deployment["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def container(pod: Manifest) -> Manifest:
    only: Manifest
    (only,) = pod["containers"]
    return only


@pytest.fixture
def settings(rendered: list[Manifest], settings_classes: SettingsClasses, stage: str) -> StageSettings:
    made: StageSettings = settings_of(rendered, settings_classes, stage)
    return made


def named(documents: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [d for d in documents if (d["kind"], d["metadata"]["name"]) == (kind, name)]
    return found


def settings_of(documents: list[Manifest], classes: SettingsClasses, stage: str) -> Any:
    """What the program makes of the container's arguments; fails for a flag or value that it does not know."""
    spec = named(documents, "Deployment", stage)["spec"]["template"]["spec"]
    arguments = spec["containers"][0]["args"]
    try:
        return load_settings(classes[stage], arguments)
    except SystemExit:
        pytest.fail(f"services.{stage} does not start with {arguments}")


def ports_of(container: Manifest) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container["ports"]}


def test_base_files_fit_the_schemas(manifests: Path) -> None:
    import kubernetes_validate

    files = [p for p in sorted((manifests / "base").glob("*.yaml")) if p.name != "kustomization.yaml"]
    assert len(files) >= 7
    for file in files:
        for document in yaml.load_all(file.read_text(), yaml.CSafeLoader):
            kubernetes_validate.validate(document, SCHEMAS, strict=True)


def test_base_lists_all_its_files(manifests: Path) -> None:
    listed = yaml.safe_load((manifests / "base" / "kustomization.yaml").read_text())["resources"]
    files = {p.name for p in (manifests / "base").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(listed) == files


def test_rendered_resources_fit_the_schemas(rendered: list[Manifest]) -> None:
    import kubernetes_validate

    for version in (SCHEMAS, kubernetes_validate.latest_version()):
        for document in rendered:
            kubernetes_validate.validate(document, version, strict=True)


def test_schemas_would_refuse_a_misspelt_field(rendered: list[Manifest]) -> None:
    import kubernetes_validate

    document = named(rendered, "Deployment", "engine")
    broken = {**document, "spec": {**document["spec"], "replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, SCHEMAS, strict=True)


def test_ports_are_those_that_the_program_listens_on(
    deployment: Manifest, container: Manifest, settings: StageSettings
) -> None:
    ports = ports_of(container)
    assert ports == {"grpc": settings.port, "health": settings.health_port, "metrics": settings.metrics_port}
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(settings.metrics_port)


async def test_probes_ask_for_names_that_the_server_answers(container: Manifest) -> None:
    server = StageServer(StageSettings(host="127.0.0.1"), [])
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.health_port}") as channel:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                asked = container[probe]["grpc"]
                assert asked["port"] == ports_of(container)["health"]
                request = health_pb2.HealthCheckRequest(service=asked["service"])
                await health_pb2_grpc.HealthStub(channel).Check(request)  # NOT_FOUND for another name
    finally:
        await server.drain(0)
    assert container["livenessProbe"]["grpc"]["service"] == "liveness"
    assert container["readinessProbe"]["grpc"]["service"] == "readiness"


def test_gateway_starts_without_the_other_stages(rendered: list[Manifest]) -> None:
    """Its readiness follows theirs, which may take many minutes; a startup probe on it would kill the gateway."""
    (container,) = named(rendered, "Deployment", "gateway")["spec"]["template"]["spec"]["containers"]
    assert container["startupProbe"]["grpc"]["service"] == "liveness"


def test_services_lead_to_the_pods(rendered: list[Manifest], stage: str) -> None:
    labels = named(rendered, "Deployment", stage)["spec"]["template"]["metadata"]["labels"]
    name = "gateway-replicas" if stage == "gateway" else stage
    service = named(rendered, "Service", name)
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= labels.items()
    (container,) = named(rendered, "Deployment", stage)["spec"]["template"]["spec"]["containers"]
    for port in service["spec"]["ports"]:
        assert ports_of(container)[port["targetPort"]] == port["port"]


def test_gateway_finds_the_other_stages(rendered: list[Manifest], settings_classes: SettingsClasses) -> None:
    gateway = settings_of(rendered, settings_classes, "gateway")
    for name in ("engine", "codec"):
        ports = {port["name"]: port["port"] for port in named(rendered, "Service", name)["spec"]["ports"]}
        assert getattr(gateway, f"{name}_target") == f"dns:///{name}:{ports['grpc']}"
        assert getattr(gateway, f"{name}_health_target") == f"dns:///{name}:{ports['health']}"


def test_pods_have_no_unneeded_privileges(pod: Manifest, container: Manifest) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == USER
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_service_links_cannot_become_settings(pod: Manifest) -> None:
    """Kubernetes would set CSM_GATEWAY_PORT=tcp://... for a Service named csm-gateway."""
    assert pod["enableServiceLinks"] is False


def test_rollout_and_shutdown_lose_no_call(
    rendered: list[Manifest], deployment: Manifest, pod: Manifest, container: Manifest, settings: StageSettings
) -> None:
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    sleep_seconds = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > sleep_seconds + settings.drain_seconds
    budget = named(rendered, "PodDisruptionBudget", deployment["metadata"]["name"])
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]


def test_startup_may_take_as_long_as_the_rollout_waits(deployment: Manifest, container: Manifest) -> None:
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] < deployment["spec"]["progressDeadlineSeconds"]


def test_mounts_have_volumes_and_claims(rendered: list[Manifest], pod: Manifest, container: Manifest) -> None:
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    for volume in volumes.values():
        if "persistentVolumeClaim" in volume:
            named(rendered, "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])


def test_weights_are_kept_where_the_image_looks_for_them(
    repository: Path, container: Manifest, stage: str, overlay: str
) -> None:
    dockerfile = (repository / "docker" / f"{stage}.Dockerfile").read_text()
    paths = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    if stage == "gateway":
        assert "weights" not in paths
        assert "HF_HOME" not in dockerfile
    elif overlay == "cpu-demo":
        assert "weights" not in paths  # the voice is in the image
    else:
        assert f"HF_HOME={paths['weights']}" in dockerfile


def test_watermark_keys_are_in_the_codec_alone_and_sealing_keys_in_the_gateway(
    rendered: list[Manifest], stage: str, overlay: str
) -> None:
    spec = named(rendered, "Deployment", stage)["spec"]["template"]["spec"]
    secrets = {volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
    expected = {"codec": {"watermark-keyring"}, "gateway": {"code-sealing-keyring"}}.get(stage, set())
    assert secrets == (set() if overlay == "cpu-demo" else expected)  # a demo makes keys that it loses


@pytest.mark.parametrize(
    ("of", "volume", "setting"),
    [("codec", "watermark", "watermark_keyring"), ("gateway", "code-sealing", "code_sealing_keyring")],
)
def test_keyring_is_read_from_the_secret(
    rendered: list[Manifest], settings_classes: SettingsClasses, overlay: str, of: str, volume: str, setting: str
) -> None:
    if overlay == "cpu-demo":
        pytest.skip("it has keys of its own: tests/deploy/components")
    (container,) = named(rendered, "Deployment", of)["spec"]["template"]["spec"]["containers"]
    (mount,) = [m for m in container["volumeMounts"] if m["name"] == volume]
    assert mount["readOnly"] is True
    keyring = getattr(settings_of(rendered, settings_classes, of), setting)
    assert str(Path(keyring).parent) == mount["mountPath"]


def test_only_the_gateway_reaches_engine_and_codec(rendered: list[Manifest]) -> None:
    denied = named(rendered, "NetworkPolicy", "deny-by-default")["spec"]
    assert denied == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for stage in ("engine", "codec"):
        (rule,) = named(rendered, "NetworkPolicy", stage)["spec"]["ingress"]
        assert rule["from"] == [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "gateway"}}}]
        assert [port["port"] for port in rule["ports"]] == ["grpc", "health"]
    (rule,) = named(rendered, "NetworkPolicy", "gateway")["spec"]["ingress"]
    assert rule == {"ports": [{"port": "grpc"}, {"port": "health"}]}  # of gateway-replicas, for who balances itself


def test_every_stage_reaches_name_servers_and_those_of_openshift(rendered: list[Manifest]) -> None:
    """Policies see the ports of pods, and OpenShift's name servers do not listen on 53."""
    policy = named(rendered, "NetworkPolicy", "names")["spec"]
    assert policy["podSelector"] == {"matchLabels": {"app.kubernetes.io/part-of": "csm"}}
    anywhere, openshift = policy["egress"]
    assert "to" not in anywhere
    (pods,) = openshift["to"]
    assert pods == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "openshift-dns"}}}
    for rule, port in ((anywhere, 53), (openshift, 5353)):
        assert rule["ports"] == [{"protocol": protocol, "port": port} for protocol in ("UDP", "TCP")]


def test_policies_select_pods_that_exist(rendered: list[Manifest]) -> None:
    labels = [d["spec"]["template"]["metadata"]["labels"].items() for d in rendered if d["kind"] == "Deployment"]
    for policy in (d for d in rendered if d["kind"] == "NetworkPolicy"):
        wanted = policy["spec"]["podSelector"].get("matchLabels", {}).items()
        assert any(wanted <= pod_labels for pod_labels in labels), policy["metadata"]["name"]


def test_images_are_the_dockerfiles_and_carry_a_version(container: Manifest, stage: str) -> None:
    name, _, tag = container["image"].rpartition(":")
    assert name.rsplit("/", 1)[-1] == f"csm-{stage}"
    assert tag not in ("", "latest")


def test_gpu_overlay_gives_the_engine_a_gpu(
    rendered: list[Manifest], settings_classes: SettingsClasses, overlay: str
) -> None:
    spec = named(rendered, "Deployment", "engine")["spec"]["template"]["spec"]
    limits = spec["containers"][0]["resources"]["limits"]
    settings = settings_of(rendered, settings_classes, "engine")
    if overlay == "gpu":
        assert (limits["nvidia.com/gpu"], settings.device, settings.dtype) == (1, "cuda", "bfloat16")
        assert "nvidia.com/gpu" in [toleration["key"] for toleration in spec["tolerations"]]
    else:
        assert ("nvidia.com/gpu" in limits, settings.device) == (False, "cpu")
