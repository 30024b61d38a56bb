"""The health check that deploy/haproxy/haproxy.cfg sends, byte by byte."""

from __future__ import annotations

import re
from pathlib import Path

from grpc_health.v1 import health_pb2

from tests.deploy.haproxy.health_check import answer, request


def test_the_health_check_is_grpc_s(repository: Path) -> None:
    config = (repository / "deploy" / "haproxy" / "haproxy.cfg").read_text(encoding="utf-8")
    (sent,) = re.findall(r"tcp-check send-binary (\w+)", config)
    (expected,) = re.findall(r"tcp-check expect binary (\w+)", config)
    assert sent == request("readiness").hex()
    assert expected == answer(health_pb2.HealthCheckResponse.SERVING).hex()
