"""The bearer token of clients/node: sent with every call, and never in plaintext to another host."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from services.gateway.auth.tokens import digest_of
from tests.support.authority import Authority
from tests.support.fake_deployment import FakeDeployment, fake_deployment

pytestmark = [pytest.mark.polyglot, pytest.mark.timeout(300)]

TOKEN = "a-token_of.ada"
ELSEWHERE = "192.0.2.1:1"  # nobody has this address
TARGETS = {
    "127.0.0.1:50051": True,
    "localhost:50051": True,
    "localhost": True,
    "[::1]:50051": True,
    "::1": True,
    "dns:///localhost:50051": True,
    "dns://8.8.8.8/localhost:50051": True,
    "ipv4:127.0.0.1:1,127.0.0.2:2": True,
    "ipv6:[::1]:50051": True,
    "unix:/run/csm.sock": True,
    "10.0.0.7:50051": False,
    "0.0.0.0:50051": False,
    "gateway:50051": False,
    "localhost.example.com:50051": False,
    "127.0.0.1.example.com:50051": False,
    "dns:///gateway:50051": False,
    "dns://localhost/gateway:50051": False,
    "ipv4:127.0.0.1:1,10.0.0.7:2": False,
    "[2001:db8::1]:50051": False,
    "xds:///gateway": False,
    "": False,
}


def write_token(folder: Path, token: str = TOKEN) -> str:
    (folder / "token").write_text(f"{token}\n")
    return str(folder / "token")


def guarding(folder: Path) -> dict[str, Any]:
    """Settings of a gateway that lets TOKEN in."""
    (folder / "tokens.json").write_text(json.dumps([{"name": "ada", "sha256": digest_of(TOKEN)}]))
    return {"auth_tokens_file": folder / "tokens.json"}


@pytest.mark.parametrize("way", [[], ["--unary"]])
async def test_call_carries_the_token_and_is_refused_without_it(node: Any, tmp_path: Path, way: list[str]) -> None:
    ours = Authority()
    ca = ["--tls-ca", str(ours.write_ca(tmp_path))]
    async with fake_deployment(**guarding(tmp_path), **ours.write(tmp_path)) as running:
        call = [f"localhost:{running.gateway.server.port}", "Hello.", *ca, *way]
        for token, reason in (("", "CREDENTIAL_MISSING"), ("another", "CREDENTIAL_INVALID")):
            result = await asyncio.to_thread(node.say, *call, CSM_TOKEN=token)
            assert result.returncode == 1
            assert "UNAUTHENTICATED: " in result.stderr and f"reason: {reason}" in result.stderr
            assert not node.out.exists()
        file = ["--token-file", write_token(tmp_path)]
        result = await asyncio.to_thread(node.say, *call, *file, CSM_TOKEN="another")
        assert result.returncode == 0, result.stderr  # the file goes before the environment
        result = await asyncio.to_thread(node.say, *call, CSM_TOKEN=TOKEN)
        assert result.returncode == 0, result.stderr


async def test_token_goes_out_in_plaintext_to_this_host_and_to_no_proxy(node: Any, tmp_path: Path) -> None:
    async with fake_deployment(**guarding(tmp_path)) as running:
        nowhere = {"http_proxy": "http://127.0.0.1:1", "grpc_proxy": "http://127.0.0.1:1", "no_proxy": ""}
        result = await asyncio.to_thread(node.say, running.target, "Hello.", CSM_TOKEN=TOKEN, **nowhere)
    assert result.returncode == 0, result.stderr


def test_token_is_kept_from_the_network(node: Any) -> None:
    result = node.say(ELSEWHERE, "Hello.", CSM_TOKEN=TOKEN)
    assert result.returncode == 1
    assert f"{ELSEWHERE} in plaintext" in result.stderr and "--insecure-token" in result.stderr
    assert TOKEN not in result.stderr
    for allowed in ("--insecure-token", "--tls"):
        result = node.say(ELSEWHERE, "Hello.", allowed, "--deadline-seconds", "0.2", CSM_TOKEN=TOKEN)
        assert result.returncode == 1
        assert "in plaintext" not in result.stderr


def test_only_loopback_names_count_as_this_host(node: Any) -> None:
    program = (
        "import { isLoopback } from './targets.mjs'; console.log(JSON.stringify(process.argv.slice(1).map(isLoopback)))"
    )
    command = ["node", "--input-type=module", "--eval", program, "--", *TARGETS]
    told = subprocess.run(command, cwd=node.folder, capture_output=True, text=True, timeout=100, check=True).stdout
    assert dict(zip(TARGETS, json.loads(told), strict=True)) == TARGETS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: ENOENT"),
        (b" \n", "is empty; it must hold a token."),
        (b"\xff", "holds no token: a token is printable ASCII."),
        (b"two words", "A token is one word of printable ASCII characters; this one is not."),
    ],
)
def test_unusable_token_file_is_named(node: Any, tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    result = node.say("localhost:1", "Hello.", "--token-file", str(file))
    assert result.returncode == 1
    assert message in result.stderr
    assert "two words" not in result.stderr


async def test_listed_gateways_that_want_a_token_tell_over_tls_whether_they_are_ready(
    node: Any, tmp_path: Path
) -> None:
    """They are asked without a token."""
    ours = Authority()
    settings = guarding(tmp_path) | ours.write(tmp_path)
    options = ["--tls-ca", str(ours.write_ca(tmp_path)), "--token-file", write_token(tmp_path), "--resumes", "0"]
    async with fake_deployment(**settings) as ready, fake_deployment(**settings) as lost:
        for server in (*lost.engine_servers, *lost.codec_servers):
            await server.drain(0)
        target = f"ipv4:127.0.0.1:{lost.gateway.server.port},127.0.0.1:{ready.gateway.server.port}"
        for _ in range(3):
            result = await asyncio.to_thread(node.say, target, "Hello.", *options)
            assert result.returncode == 0, result.stderr
        assert (num_streams(ready), num_streams(lost)) == (3, 0)


def num_streams(running: FakeDeployment) -> float:
    """That its gateway has begun."""
    method = {"grpc_type": "server_stream", "grpc_service": "csm.v1.TextToSpeechService"}
    labels = method | {"grpc_method": "StreamSynthesize"}
    return running.gateway.server.metrics.registry.get_sample_value("grpc_server_started_total", labels) or 0
