"""Debian's Prometheus scrapes the real stages: every expression of rules and dashboard gives numbers on real data."""

from __future__ import annotations

import asyncio
import json
import math
import re
import shutil
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from csm_client import AsyncClient, CsmClientError

from bench.deployment.process import StageProcess
from services.http.settings import HttpSettings
from services.http.stage import start_http
from tests.support.authority import Authority
from tests.support.network.ports import free_ports
from tests.support.tiny.bundle import write_tiny_bundle

pytestmark = pytest.mark.slow

WAIT_S = 120.0


def expressions(repository: Path) -> Iterator[str]:
    """Of the alerts without their thresholds, and of the panels."""
    rules = yaml.safe_load((repository / "deploy/prometheus/rules.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            found = re.fullmatch(r"(.+) [<>] ([0-9.]+)", rule["expr"], re.DOTALL)
            assert found, rule["expr"]
            yield found[1]
    dashboard = json.loads((repository / "deploy/grafana/dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


@asynccontextmanager
async def running_prometheus(folder: Path, rules: Path, ports: list[int]) -> AsyncIterator[httpx.AsyncClient]:
    """Prometheus over these metrics ports; a client of its API. Its targets are all up."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {"job_name": "csm", "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with free_ports(1) as (port,):
        process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
                async with asyncio.timeout(WAIT_S):
                    while [value for _, value in await values(client, "up")] != [1.0] * len(ports):
                        await asyncio.sleep(0.5)
                yield client
        finally:
            process.terminate()
            await process.wait()


async def values(client: httpx.AsyncClient, expression: str) -> list[tuple[dict[str, str], float]]:
    """(labels, value) of what an expression gives now; nothing while Prometheus starts."""
    try:
        answer = await client.get("/api/v1/query", params={"query": expression})
    except httpx.TransportError:
        return []
    if answer.status_code == 503:
        return []
    body: dict[str, Any] = answer.json()
    assert body["status"] == "success", body
    return [(found["metric"], float(found["value"][1])) for found in body["data"]["result"]]


async def speak(target: str, url: str, ca: Path) -> None:
    """Calls of all kinds: complete, cancelled, refused by a full engine, over HTTPS."""
    http = httpx.AsyncClient(timeout=WAIT_S, verify=ssl.create_default_context(cafile=str(ca)))
    async with AsyncClient(target, timeout_s=WAIT_S) as client, http:
        await client.synthesize("Hello.", max_seconds=1.0)
        stream = client.stream_synthesize("Hello there.", max_seconds=20.0)
        async for _ in stream:
            stream.cancel()
            break
        many = (client.synthesize("Hello.", max_seconds=4.0) for _ in range(8))
        ends = await asyncio.gather(*many, return_exceptions=True)
        assert any(isinstance(end, CsmClientError) for end in ends)
        body = {"model": "csm", "input": "Hello.", "voice": "alloy", "max_audio_seconds": 1.0}  # it never ends itself
        answer = await http.post(f"{url}/v1/audio/speech", json=body)
        assert answer.status_code == 200, answer.text
        await http.get(f"{url}/readyz")


@pytest.mark.timeout(900)
async def test_every_expression_gives_numbers_on_real_data(repository: Path, tmp_path: Path) -> None:
    if not shutil.which("prometheus"):
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    bundle = tmp_path / "bundle"
    write_tiny_bundle(bundle)
    async with AsyncExitStack() as stack:
        common = ["--bundle", str(bundle), "--threads", "1"]
        engine = StageProcess("engine", 0, [*common, "--slots", "1", "--max-waiting", "1"], tmp_path)
        codec = StageProcess("codec", 0, [*common, "--watermark-keyring", str(tmp_path / "marks.json")], tmp_path)
        for process in (engine, codec):
            stack.push_async_callback(process.kill)
        await asyncio.gather(engine.start(), codec.start())
        options = ["--code-sealing-keyring", str(tmp_path / "seals.json"), "--failover-wait-seconds", "0.5"]
        for process in (engine, codec):
            name = process.name.split()[0]
            options += [f"--{name}-target", f"127.0.0.1:{process.api_port}"]
            options += [f"--{name}-health-target", f"127.0.0.1:{process.health_port}"]
        gateway = StageProcess("gateway", 0, options, tmp_path)
        stack.push_async_callback(gateway.kill)
        await gateway.start()
        await gateway.wait_ready()
        authority = Authority()
        door = await start_http(
            HttpSettings(
                host="127.0.0.1",
                port=0,
                metrics_port=0,
                **authority.write(tmp_path),
                gateway_target=f"127.0.0.1:{gateway.api_port}",
                gateway_health_target=f"127.0.0.1:{gateway.health_port}",
            )
        )
        stack.push_async_callback(door.stop)
        ports = [gateway.metrics_port, engine.metrics_port, codec.metrics_port, door.metrics_port]
        rules = repository / "deploy/prometheus/rules.yaml"
        prometheus = await stack.enter_async_context(running_prometheus(tmp_path, rules, ports))
        for _ in range(2):  # a series that is born in the first has an increase in the second
            await speak(f"127.0.0.1:{gateway.api_port}", door.url, authority.write_ca(tmp_path))
            await asyncio.sleep(3)
        wrong = {}
        for expression in expressions(repository):
            found = await values(prometheus, expression)
            if not found or not all(math.isfinite(value) for _, value in found):
                wrong[expression] = found
        assert not wrong
        answer = (await prometheus.get("/api/v1/rules")).json()["data"]["groups"]
        assert {rule["health"] for group in answer for rule in group["rules"]} == {"ok"}
