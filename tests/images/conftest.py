"""The images as `make images` built them, and compose.yaml running them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from recipes.images.catalog import FOLDER, ROOT, image_name, names
from recipes.images.container_tool import ContainerTool, ContainerToolError, find_tool
from tests.support.network.ports import free_ports

READY_SECONDS = 400.0
STOP_SECONDS = 150.0  # more than compose.yaml's stop_grace_period
PROJECT = "csm-test"


@pytest.fixture(scope="session")
def tool() -> ContainerTool:
    return find_tool(FOLDER)


@pytest.fixture(params=names())
def image(request: pytest.FixtureRequest) -> str:
    """Each image by its stage's name."""
    name: str = request.param
    return name


@dataclass
class Deployment:
    """The containers of compose.yaml's default profile, and the ports they publish."""

    tool: ContainerTool
    port: int
    metrics_port: int
    http_port: int
    ready_seconds: float = 0.0

    @property
    def variables(self) -> dict[str, str]:
        return {
            "CSM_VERSION": image_name("gateway").rpartition(":")[2],
            "CSM_PORT": str(self.port),
            "CSM_METRICS_PORT": str(self.metrics_port),
            "CSM_HTTP_PORT": str(self.http_port),
        }

    def compose(self, *arguments: str, seconds: float = 120.0) -> str:
        file = str(ROOT / "docker" / "compose.yaml")
        return self.tool.compose(
            "--file", file, "--project-name", PROJECT, *arguments, seconds=seconds, **self.variables
        )

    def container(self, stage: str) -> str:
        """Name of the container of a stage; Compose names it by the service, with - or _."""
        found = self.tool.run("ps", "--all", "--format", "{{.Names}}").split()
        (name,) = [name for name in found if name.replace("_", "-").startswith(f"{PROJECT}-{stage}-")]
        return name

    def python(self, stage: str, program: str) -> str:
        """What a program prints inside the container of a stage."""
        return self.tool.run("exec", self.container(stage), "python", "-c", program)

    def state(self, stage: str) -> dict[str, Any]:
        state: dict[str, Any] = self.tool.inspect("container", self.container(stage))["State"]
        return state

    def stop(self, stage: str) -> int:
        """Sends SIGTERM and waits; the exit status. 137 is that of a container that had to be killed."""
        self.tool.run("stop", "--time", f"{STOP_SECONDS:.0f}", self.container(stage), seconds=STOP_SECONDS + 60)
        return int(self.state(stage)["ExitCode"])


@pytest.fixture(scope="session")
def deployment(tool: ContainerTool) -> Iterator[Deployment]:
    """compose.yaml as it is, started once and ready."""
    with free_ports(3) as ports:  # a container tool may want them for itself
        running = Deployment(tool, *ports)
    running.compose("down", "--volumes")
    try:
        began = time.monotonic()
        running.compose("up", "--detach", "--no-build")
        wait_until_ready(running)
        running.ready_seconds = time.monotonic() - began
        yield running
    finally:
        running.compose("down", "--volumes", "--timeout", "10")


def wait_until_ready(running: Deployment) -> None:
    """Asks the gateway's health check in its container, every two seconds."""
    end = time.monotonic() + READY_SECONDS
    check = ("exec", running.container("gateway"), "python", "/app/healthcheck.py", "50052", "readiness")
    while True:
        try:
            running.tool.run(*check)
            return
        except ContainerToolError:
            if time.monotonic() > end:
                logs = "\n".join(f"{stage}: {running.compose('logs', stage)[-2000:]}" for stage in stages())
                pytest.fail(f"not ready after {READY_SECONDS:.0f} s\n{logs}")
            time.sleep(2)


def stages() -> list[str]:
    """The services of compose.yaml that its default profile starts."""
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))["services"]
    return [name for name, service in services.items() if "builtin" in service.get("profiles", ["builtin"])]
