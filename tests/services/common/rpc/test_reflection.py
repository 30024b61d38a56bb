"""A client without protos calls the gateway by either version of reflection (`buf curl`)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest as Request
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionResponse as Response

from services.common.rpc.reflection import MOST_S
from tests.support.clock import Clock
from tests.support.fake_deployment import fake_deployment

BUF = Path(sys.executable).with_name("buf")


async def curl(target: str, *options: str) -> subprocess.CompletedProcess[str]:
    method = f"http://{target}/csm.v1.TextToSpeechService/GetServerInfo"
    command = [str(BUF), "curl", "--http2-prior-knowledge", "--protocol=grpc", *options, "--data={}", method]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_serves_the_api(version: str) -> None:
    async with fake_deployment() as running:
        await running.gateway.wait_ready()
        done = await curl(running.target, f"--reflect-protocol=grpc-{version}")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["modelVersion"] == "fake/1"


async def test_reflection_may_be_off() -> None:
    async with fake_deployment(reflection=False) as running:
        await running.gateway.wait_ready()
        for version in ("v1", "v1alpha"):
            done = await curl(running.target, f"--reflect-protocol=grpc-{version}")
            assert done.returncode != 0 and "failed to find service" in done.stderr


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_a_call_that_is_kept_open_ends(clock: Clock, stage: Any, version: str) -> None:
    """It needs no token, and its caller may set no deadline."""
    method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    call = stage.channel.stream_stream(method, Request.SerializeToString, Response.FromString)()
    await call.write(Request(list_services=""))
    assert (await call.read()).HasField("list_services_response")
    clock.put_forward(MOST_S)
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "reflection may take 60 s" in await call.details()
