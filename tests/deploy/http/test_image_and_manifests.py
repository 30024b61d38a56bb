"""The image and the manifests of the HTTP door against the lock and the program's own settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.common.settings import load_settings
from services.http.api.front import UPLOADS
from services.http.settings import HttpSettings
from tests.support.door.fake_door import FakeDoor, fake_door

DEFAULTS = HttpSettings.model_construct()


@pytest.fixture(scope="session")
def dockerfile(repository: Path) -> Path:
    return repository / "docker" / "http.Dockerfile"


@pytest.fixture(scope="session")
def manifests(repository: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((repository / "deploy" / "kubernetes" / "base" / "http.yaml").read_text()))


@pytest.fixture(scope="session")
def container(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any]
    (found,) = manifests[0]["spec"]["template"]["spec"]["containers"]
    return found


@pytest.fixture
async def door() -> Any:
    async with fake_door() as running:
        yield running


def test_image_runs_the_program_without_root_and_exposes_its_ports(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    assert 'ENTRYPOINT ["python", "-m", "services.http"]' in text and "USER 10001:10001" in text
    assert f"EXPOSE {DEFAULTS.port} {DEFAULTS.metrics_port}\n" in text
    assert f"http://127.0.0.1:{DEFAULTS.port}/readyz" in text
    assert "--no-deps --requirement /run/http.txt" in text and "torch" not in text.replace("no torch", "")


def test_memory_is_enough_for_all_bodies_that_the_door_lets_in(container: dict[str, Any]) -> None:
    """2.9 times their size was seen (docs/http.md), the 66 MiB of the program itself included."""
    settings = load_settings(HttpSettings, container["args"])
    limit = container["resources"]["limits"]["memory"]
    assert limit.endswith("Gi")
    assert int(limit.removesuffix("Gi")) * 2**30 >= 5.5 * settings.max_bodies_bytes + 128 * 2**20


def test_uploads_fit_into_the_folder_for_them(manifests: list[dict[str, Any]], container: dict[str, Any]) -> None:
    settings = load_settings(HttpSettings, container["args"])
    (volume,) = manifests[0]["spec"]["template"]["spec"]["volumes"]
    size = volume["emptyDir"]["sizeLimit"]
    assert size.endswith("Gi")
    assert int(size.removesuffix("Gi")) * 2**30 >= UPLOADS * settings.max_upload_bytes


async def test_probes_ask_for_what_the_door_answers(container: dict[str, Any], door: FakeDoor) -> None:
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["port"] == "http"
        assert (await door.client.get(asked["path"])).status_code == 200
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_manifest_starts_the_program_with_its_ports(
    manifests: list[dict[str, Any]], container: dict[str, Any], repository: Path
) -> None:
    settings = load_settings(HttpSettings, container["args"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": settings.port, "metrics": settings.metrics_port}
    assert not settings.metrics_at_api_port
    template = manifests[0]["spec"]["template"]
    assert template["metadata"]["annotations"]["prometheus.io/port"] == str(settings.metrics_port)
    sleep_seconds = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert template["spec"]["terminationGracePeriodSeconds"] > sleep_seconds + settings.drain_seconds
    gateway = list(yaml.safe_load_all((repository / "deploy/kubernetes/base/gateway.yaml").read_text()))[1]
    offered = {port["name"]: port["port"] for port in gateway["spec"]["ports"]}
    name = gateway["metadata"]["name"]
    assert settings.gateway_target == f"dns:///{name}:{offered['grpc']}"
    assert settings.gateway_health_target == f"dns:///{name}:{offered['health']}"


def test_the_http_server_has_no_unneeded_privileges(manifests: list[dict[str, Any]], container: dict[str, Any]) -> None:
    pod = manifests[0]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True and container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not [volume for volume in pod["volumes"] if "secret" in volume]


def test_every_overlay_has_its_image(repository: Path) -> None:
    for overlay in (repository / "deploy" / "kubernetes" / "overlays").iterdir():
        images = yaml.safe_load((overlay / "kustomization.yaml").read_text())["images"]
        (tag,) = [image["newTag"] for image in images if image["name"] == "csm-http"]
        assert re.fullmatch(r"\d+\.\d+\.\d+", tag)


def test_compose_command_is_settings(repository: Path) -> None:
    service = yaml.safe_load((repository / "docker" / "compose.yaml").read_text())["services"]["http"]
    command = [re.sub(r"\$\{\w+:-(.*?)\}", r"\1", argument) for argument in service["command"]]  # as Compose does
    settings = load_settings(HttpSettings, command)
    assert settings.gateway_target == "dns:///gateway:50051"
    assert int(service["stop_grace_period"].removesuffix("s")) > settings.drain_seconds
