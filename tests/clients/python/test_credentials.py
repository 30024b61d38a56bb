"""Tokens: sent with every call, and never in plaintext to another host unless somebody says so."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from csm_client import AsyncClient, Client, ConnectionOptions, InvalidRequestError, TokenError, UnauthenticatedError
from csm_client.command.cli import main
from csm_client.targets import is_loopback

from tests.support.authority import Authority
from tests.support.fake_deployment import fake_deployment
from tests.support.fake_stages import FRAME_SAMPLES

TOKEN = "a-token_of.ada"
SIZE = 2 * 10 * FRAME_SAMPLES


def guarding(folder: Path) -> dict[str, Any]:
    """Settings of a gateway that lets TOKEN in."""
    entry = {"name": "ada", "sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}
    (folder / "tokens.json").write_text(json.dumps([entry]))
    return {"auth_tokens_file": folder / "tokens.json"}


async def test_every_call_carries_the_token(tmp_path: Path) -> None:
    async with fake_deployment(**guarding(tmp_path)) as running:
        async with AsyncClient(running.target, token=TOKEN, timeout_s=20) as client:
            assert (await client.server_info()).model_version == "fake/1"
            assert [voice.name for voice in await client.list_voices()] == ["ada", "bo"]
            assert len((await client.synthesize("Hello.")).samples) == SIZE
            assert len((await client.stream_synthesize("Hello.").read_all()).samples) == SIZE
            with pytest.raises(InvalidRequestError):  # it was let in
                await client.detect_watermark(b"no recording")
        for token, reason in ((None, "CREDENTIAL_MISSING"), ("another", "CREDENTIAL_INVALID")):
            async with AsyncClient(running.target, token=token, timeout_s=20) as client:
                with pytest.raises(UnauthenticatedError) as failed:
                    await client.stream_synthesize("Hello.").read_all()
                assert failed.value.reason == reason


def test_every_call_of_the_blocking_client_carries_the_token(serve: Any, tmp_path: Path) -> None:
    with serve(**guarding(tmp_path)) as server:
        with Client(server.target, token=TOKEN, timeout_s=20) as client:
            assert client.server_info().model_version == "fake/1"
            assert len(client.synthesize("Hello.").samples) == SIZE
            assert len(client.stream_synthesize("Hello.").read_all().samples) == SIZE
        with Client(server.target, timeout_s=20) as client, pytest.raises(UnauthenticatedError, match="wants a token"):
            client.server_info()


async def test_token_goes_over_tls(tmp_path: Path) -> None:
    ours = Authority()
    async with fake_deployment(**guarding(tmp_path), **ours.write(tmp_path)) as running:
        options = ConnectionOptions(token=TOKEN, tls_ca=ours.write_ca(tmp_path))
        async with AsyncClient(running.target, timeout_s=20, **options) as client:
            assert (await client.server_info()).model_version == "fake/1"


@pytest.mark.parametrize(
    ("target", "loopback"),
    [
        ("127.0.0.1:50051", True),
        ("localhost:50051", True),
        ("localhost", True),
        ("[::1]:50051", True),
        ("dns:///localhost:50051", True),
        ("dns://8.8.8.8/localhost:50051", True),
        ("ipv4:127.0.0.1:1,127.0.0.2:2", True),
        ("ipv4:///127.0.0.1:1,127.0.0.2:2", True),
        ("ipv6:[::1]:50051", True),
        ("ipv6:%5B::1%5D:50051", True),
        ("unix:/run/csm.sock", True),
        ("unix-abstract:csm", True),
        ("10.0.0.7:50051", False),
        ("0.0.0.0:50051", False),
        ("gateway:50051", False),
        ("localhost.example.com:50051", False),
        ("127.0.0.1.example.com:50051", False),
        ("dns:///gateway:50051", False),
        ("ipv4:127.0.0.1:1,10.0.0.7:2", False),
        ("ipv4:///127.0.0.1:1,10.0.0.7:2", False),
        ("[2001:db8::1]:50051", False),
        ("xds:///gateway", False),
    ],
)
def test_token_goes_out_in_plaintext_only_to_this_host(target: str, loopback: bool) -> None:
    assert is_loopback(target) is loopback
    if loopback:
        Client(target, token=TOKEN).close()
        return
    with pytest.raises(TokenError, match=r"in plaintext.*insecure_token") as refused:
        Client(target, token=TOKEN)
    assert TOKEN not in str(refused.value)
    Client(target).close()
    for allowed in (ConnectionOptions(insecure_token=True), ConnectionOptions(tls=True)):
        allowed["token"] = TOKEN
        Client(target, **allowed).close()


async def test_proxy_of_the_environment_does_not_see_calls_to_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "no_grpc_proxy", "grpc_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with fake_deployment() as running:
        await running.gateway.wait_ready()
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        async with AsyncClient(running.target, token=TOKEN, timeout_s=60) as client:
            assert (await client.server_info()).model_version == "fake/1"


@pytest.mark.parametrize("token", ["", "two words", "line\nend", "naïve"])
def test_a_token_that_no_header_can_carry_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(TokenError) as refused:
        Client("localhost:1", token=token)
    assert not token or token not in str(refused.value)


def test_program_takes_the_token_from_a_file_or_the_environment(
    serve: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CSM_TOKEN", raising=False)
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    with serve(**guarding(tmp_path)) as server:
        info = ["serve-info", "--target", server.target]
        assert main(info) == 1
        assert "CREDENTIAL_MISSING" in capsys.readouterr().err
        assert main([*info, "--token-file", str(file)]) == 0
        monkeypatch.setenv("CSM_TOKEN", "another")
        assert main(info) == 1
        assert "CREDENTIAL_INVALID" in capsys.readouterr().err
        assert main([*info, "--token-file", str(file)]) == 0
        monkeypatch.setenv("CSM_TOKEN", TOKEN)
        assert main(info) == 0
        out = str(tmp_path / "hello.wav")
        assert main(["say", "Hello.", "--out", out, "--target", server.target]) == 0


def test_program_keeps_the_token_from_the_network(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("CSM_TOKEN", TOKEN)
    assert main(["serve-info", "--target", "192.0.2.1:1"]) == 1
    told = capsys.readouterr().err
    assert "192.0.2.1:1 in plaintext" in told and "--insecure-token" in told and TOKEN not in told
    assert main(["serve-info", "--target", "192.0.2.1:1", "--insecure-token", "--deadline", "0.2"]) == 1
    assert "in plaintext" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read"), (b" \n", "is empty"), (b"\xff", "holds no token")]
)
def test_unusable_token_file_is_named(content: bytes | None, message: str, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    assert main(["serve-info", "--token-file", str(file)]) == 1
    assert f"{file} {message}" in capsys.readouterr().err
