"""The Node client, and servers as processes that can be killed: a fake one, and the three real stages.

The fake one can be told to misbehave. The real ones run a tiny bundle, whose speech is noise. The client's
packages come from `npm ci` in clients/node.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.network.ports import free_ports

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "gen" / "python")])}
NODE_CLIENT = REPOSITORY / "clients" / "node"
START_SECONDS = 120


@dataclass(frozen=True)
class NodeClient:
    """clients/node/say.mjs, and the file that it is to write."""

    out: Path
    folder: Path = NODE_CLIENT

    def command(self, target: str, *arguments: str) -> list[str]:
        return ["node", str(self.folder / "say.mjs"), "--target", target, "--out", str(self.out), *arguments]

    def say(self, target: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command, env = self.command(target, *arguments), {**os.environ, **environment}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def node(tmp_path: Path) -> NodeClient:
    if not (NODE_CLIENT / "node_modules" / "@grpc").is_dir():
        pytest.fail("clients/node has no packages; run `npm ci` there.")
    return NodeClient(tmp_path / "speech.wav")


@dataclass(frozen=True)
class Server:
    """A running process and where it listens."""

    process: subprocess.Popen[str]
    target: str
    health_target: str = ""


@pytest.fixture
def fake_server() -> Iterator[Server]:
    program = REPOSITORY / "tests" / "polyglot" / "humming_server.py"
    with running([str(program)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield Server(process, f"127.0.0.1:{int(process.stdout.readline())}")


@pytest.fixture(scope="session")
def real_backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """A real engine and a real codec."""
    folder = tmp_path_factory.mktemp("real")
    bundle = str(folder / "bundle")
    subprocess.run([sys.executable, "-m", "tests.support.tiny.bundle", bundle], env=ENVIRONMENT, check=True)
    keyring = f"--watermark-keyring={folder / 'keys.json'}"
    with ExitStack() as stack:
        yield {
            "engine": stack.enter_context(real_stage("engine", "--bundle", bundle, "--threads=1")),
            "codec": stack.enter_context(real_stage("codec", "--bundle", bundle, "--threads=1", keyring)),
        }


@pytest.fixture
def real_server(real_backends: dict[str, Server]) -> Iterator[Server]:
    """A real gateway in front of them, one for each test."""
    arguments = []
    for name, server in real_backends.items():
        arguments += [f"--{name}-target", server.target, f"--{name}-health-target", server.health_target]
    with real_stage("gateway", *arguments) as gateway:
        yield gateway


@pytest.fixture(params=["fake_server", "real_server"])
def target(request: pytest.FixtureRequest) -> str:
    """Address of a server that behaves."""
    server: Server = request.getfixturevalue(request.param)
    return server.target


@contextmanager
def real_stage(name: str, *arguments: str) -> Iterator[Server]:
    with free_ports(2) as (port, health_port):
        ports = [f"--port={port}", f"--health-port={health_port}", "--metrics-port=-1", "--host=127.0.0.1"]
        with running(["-m", f"services.{name}", *ports, *arguments]) as process:
            server = Server(process, f"127.0.0.1:{port}", f"127.0.0.1:{health_port}")
            wait_until_ready(name, server)
            yield server


@contextmanager
def running(arguments: list[str], stdout: int | None = None) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=stdout, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_ready(name: str, server: Server) -> None:
    """Returns when the stage is ready; fails when it has not become so or has ended."""
    with grpc.insecure_channel(server.health_target) as channel:
        request = health_pb2.HealthCheckRequest(service="readiness")
        watch = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=START_SECONDS, wait_for_ready=True)
        Thread(target=lambda: (server.process.wait(), watch.cancel()), daemon=True).start()
        try:
            if any(answer.status == health_pb2.HealthCheckResponse.SERVING for answer in watch):
                return
        except grpc.RpcError as error:
            pytest.fail(f"The {name} did not become ready: {error.code().name}; it ended with {server.process.poll()}.")
        finally:
            watch.cancel()
