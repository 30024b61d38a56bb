"""Dockerfiles and compose.yaml against the lint, the lock and the programs' own settings. Nothing is built."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.common.rpc.server import StageServer
from services.common.settings import StageSettings, load_settings

STAGES = ["gateway", "engine", "codec"]
IMAGES = [*STAGES, "http"]

Instruction = tuple[str, str]
SettingsClasses = Mapping[str, type[StageSettings]]


def instructions(path: Path) -> list[Instruction]:
    """(keyword, rest) of each instruction, continuation lines joined."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(keyword, rest.strip()) for keyword, rest in lines]


@pytest.fixture(params=STAGES)
def stage(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def dockerfile(repository: Path, stage: str) -> Path:
    return repository / "docker" / f"{stage}.Dockerfile"


@pytest.fixture
def final_image(dockerfile: Path) -> list[Instruction]:
    """The instructions of the last build stage."""
    whole = instructions(dockerfile)
    last = max(index for index, (keyword, _) in enumerate(whole) if keyword == "FROM")
    return whole[last:]


@pytest.fixture
def defaults(settings_classes: SettingsClasses, stage: str) -> StageSettings:
    return settings_classes[stage].model_construct()


@pytest.fixture(scope="session")
def compose(repository: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((repository / "docker" / "compose.yaml").read_text())
    return content


@pytest.mark.parametrize("stage", IMAGES, indirect=True)
def test_lint_finds_nothing(dockerfile: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    result = subprocess.run([hadolint, dockerfile], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_image_runs_the_program_without_a_shell_and_without_root(final_image: list[Instruction], stage: str) -> None:
    keywords = [keyword for keyword, _ in final_image]
    assert keywords.index("USER") < keywords.index("ENTRYPOINT")
    user = dict(final_image)["USER"]
    assert int(user.split(":")[0]) > 0
    entrypoint = json.loads(dict(final_image)["ENTRYPOINT"])
    assert entrypoint == ["python", "-m", f"services.{stage}"]
    assert importlib.util.find_spec(f"services.{stage}.__main__") is not None


def test_image_exposes_the_ports_of_the_settings(final_image: list[Instruction], defaults: StageSettings) -> None:
    exposed = [int(port) for port in dict(final_image)["EXPOSE"].split()]
    assert exposed == [defaults.port, defaults.health_port, defaults.metrics_port]


def test_health_check_asks_the_health_port(final_image: list[Instruction], defaults: StageSettings) -> None:
    command = json.loads(dict(final_image)["HEALTHCHECK"].split("CMD", 1)[1])
    assert command == ["python", "/app/healthcheck.py", str(defaults.health_port), "readiness"]


def test_packages_are_the_lock_and_torch_fits_it(dockerfile: Path, repository: Path, stage: str) -> None:
    text = dockerfile.read_text()
    assert f"--no-deps --requirement /run/{stage}.txt" in text
    assert f"--mount=type=bind,source=requirements/{stage}.txt,target=/run/{stage}.txt" in text
    assert (repository / "requirements" / f"{stage}.txt").is_file()
    torch = re.findall(r"torch==[\d.]+", text)
    assert torch == re.findall(r"^torch==[\d.]+", (repository / f"requirements/{stage}.in").read_text(), re.MULTILINE)
    assert bool(torch) == (stage != "gateway")
    stub_maker = re.findall(r"grpcio-tools==[\d.]+", text)
    assert stub_maker[0] in (repository / "requirements" / "dev.txt").read_text().splitlines()


@pytest.mark.parametrize("stage", IMAGES, indirect=True)
def test_everything_copied_exists_and_reaches_the_build(dockerfile: Path, repository: Path) -> None:
    allowed = [line[1:] for line in (repository / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for keyword, rest in instructions(dockerfile):
        sources = rest.split()[:-1] if keyword == "COPY" and not rest.startswith("--from") else []
        sources += re.findall(r"--mount=type=bind,source=([^,]+)", rest) if keyword == "RUN" else []
        for source in sources:
            assert (repository / source).exists(), source
            assert any(source == name or source.startswith(f"{name}/") for name in allowed), source


def test_the_stages_of_a_model_share_the_layer_with_torch(repository: Path) -> None:
    """It is built, stored and pulled once only where the instructions up to it are the same, to the letter."""
    layers = {}
    for stage in ("engine", "codec"):
        whole = instructions(repository / "docker" / f"{stage}.Dockerfile")
        last = max(index for index, (keyword, _) in enumerate(whole) if keyword == "FROM")
        (torch,) = [index for index, (_, rest) in enumerate(whole) if " torch==" in rest]
        layers[stage] = whole[last : torch + 1]
    assert layers["engine"] == layers["codec"]


def test_the_tools_of_a_build_are_the_same_for_all_images(repository: Path) -> None:
    tools = set()
    for path in (repository / "docker").glob("*.Dockerfile"):
        whole = instructions(path)
        first, last = [index for index, (keyword, _) in enumerate(whole) if keyword == "FROM"]
        tools.add(tuple(whole[first:last]))
    assert len(tools) == 1


def test_every_stage_can_be_started_while_its_image_is_built(
    repository: Path, settings_classes: SettingsClasses, stage: str
) -> None:
    spec = importlib.util.spec_from_file_location("warm", repository / "docker" / "warm.py")
    assert spec is not None and spec.loader is not None
    warm = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(warm)
    arguments = [argument.format("/folder") for argument in (*warm.ANY_PORT, *warm.ARGUMENTS[stage])]
    settings = load_settings(settings_classes[stage], arguments)
    assert (settings.port, settings.health_port, settings.metrics_port) == (0, 0, 0)
    assert f"python /run/warm.py {stage}" in (repository / "docker" / f"{stage}.Dockerfile").read_text()


def services_of(compose: dict[str, Any], profile: str) -> dict[str, Any]:
    """Stage -> service, as the profile starts them."""
    started = {name: item for name, item in compose["services"].items() if profile in item.get("profiles", [profile])}
    return {name.removesuffix(f"-{profile}"): service for name, service in started.items()}


@pytest.fixture(params=["builtin", "csm-1b"])
def services(request: pytest.FixtureRequest, compose: dict[str, Any]) -> dict[str, Any]:
    return services_of(compose, request.param)


def test_compose_builds_each_stage(services: dict[str, Any], repository: Path) -> None:
    assert sorted(services) == sorted([*STAGES, "http"])
    for name, service in services.items():
        context = repository / "docker" / service["build"]["context"]
        assert (context / service["build"]["dockerfile"]) == context / f"docker/{name}.Dockerfile"
        assert (context / service["build"]["dockerfile"]).is_file()
        assert service["image"] == f"localhost/csm-{name}:${{CSM_VERSION:-dev}}"


def test_compose_commands_are_settings(services: dict[str, Any], settings_classes: SettingsClasses, stage: str) -> None:
    settings = load_settings(settings_classes[stage], services[stage]["command"])
    grace_seconds = int(services[stage]["stop_grace_period"].removesuffix("s"))
    assert grace_seconds > settings.drain_seconds


def test_compose_gateway_finds_the_other_stages(services: dict[str, Any], settings_classes: SettingsClasses) -> None:
    gateway = load_settings(settings_classes["gateway"], services["gateway"]["command"])
    for name in ("engine", "codec"):
        assert services[name]["networks"]["default"]["aliases"] == [name]
        other = load_settings(settings_classes[name], services[name]["command"])
        assert getattr(gateway, f"{name}_target") == f"dns:///{name}:{other.port}"
        assert getattr(gateway, f"{name}_health_target") == f"dns:///{name}:{other.health_port}"


def test_compose_publishes_only_gateway_and_http_door(
    services: dict[str, Any], settings_classes: SettingsClasses
) -> None:
    gateway = load_settings(settings_classes["gateway"], services["gateway"]["command"])
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert sorted(published) == ["gateway", "http"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    inner = [int(port.rsplit(":", 1)[1]) for port in published["gateway"]]
    assert inner == [gateway.port, gateway.metrics_port]


def test_compose_gives_a_gpu_and_the_hub_token_to_the_published_model_alone(compose: dict[str, Any]) -> None:
    published, builtin = services_of(compose, "csm-1b"), services_of(compose, "builtin")
    (device,) = published["engine"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    for name in ("engine", "codec"):
        assert "--bundle=bundles/csm-1b" in published[name]["command"]
        assert "HF_TOKEN" in published[name]["environment"]
        assert "--bundle=bundles/builtin" in builtin[name]["command"]
        assert not {"environment", "deploy"} & set(builtin[name])


def test_compose_starts_the_built_in_voice_unless_asked_otherwise(repository: Path) -> None:
    lines = (repository / "docker" / ".env").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["COMPOSE_PROFILES=builtin"]


def test_compose_gives_every_container_an_init(compose: dict[str, Any]) -> None:
    """As process 1 Python would not notice SIGTERM before it handles it."""
    assert all(service["init"] for service in compose["services"].values())


def test_compose_services_write_to_volumes_and_temporary_files_alone(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges"]
        assert [path.split(":")[0] for path in service["tmpfs"]] == ["/tmp"]
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= set(compose["volumes"])


def test_mounted_folders_are_made_for_the_user(services: dict[str, Any], repository: Path, stage: str) -> None:
    """A named volume takes the owner of the image's folder; without one it would belong to root."""
    text = (repository / "docker" / f"{stage}.Dockerfile").read_text()
    made = re.findall(r"install --directory --owner=10001 --group=10001 (.*)", text)
    folders = made[0].split() if made else []
    for volume in services[stage].get("volumes", []):
        assert volume.split(":")[1] in folders


async def test_health_check_tells_ready_from_not_ready(repository: Path) -> None:
    server = StageServer(StageSettings(host="127.0.0.1"), [])
    await server.start()
    command = [sys.executable, str(repository / "docker" / "healthcheck.py"), str(server.health_port), "readiness"]
    try:
        assert await exit_status(command) == 1
        server.set_serving()
        assert await exit_status(command) == 0
    finally:
        await server.drain(0)
    assert await exit_status(command) == 1


async def exit_status(command: list[str]) -> int:
    process = await asyncio.create_subprocess_exec(*command)
    return await process.wait()
