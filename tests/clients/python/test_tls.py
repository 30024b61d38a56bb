"""Clients over TLS against a real gateway: who gets in, and what the others are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from csm_client import AsyncClient, Client, TlsFileError, TlsOptions, UnavailableError
from csm_client.command.cli import main
from csm_client.errors import from_rpc_error

from tests.support.authority import Authority, write_pair
from tests.support.fake_deployment import FakeDeployment, fake_deployment
from tests.support.fake_stages import FRAME_SAMPLES


def as_caller(folder: Path, authority: Authority, ca: Path) -> TlsOptions:
    own = authority.write(folder)
    return TlsOptions(tls_ca=ca, tls_certificate=own["tls_certificate"], tls_key=own["tls_key"])


async def test_speech_comes_over_tls(tmp_path: Path) -> None:
    ours = Authority()
    async with fake_deployment(**ours.write(tmp_path)) as running:
        async with AsyncClient(running.target, tls_ca=ours.write_ca(tmp_path)) as client:
            speech = await client.stream_synthesize("Hello.").read_all()
    assert len(speech.samples) == 2 * 10 * FRAME_SAMPLES


@pytest.mark.parametrize("scheme", ["ipv4:", "ipv4:///"])
async def test_speech_comes_over_tls_from_listed_servers(scheme: str, tmp_path: Path) -> None:
    """Their certificates must have the first address of the list; gRPC itself would look for the list as a name."""
    ours = Authority()
    ca = ours.write_ca(tmp_path)
    files = [ours.write(tmp_path / "first"), ours.write(tmp_path / "second")]
    async with fake_deployment(**files[0]) as first, fake_deployment(**files[1]) as second:
        ports = [running.gateway.server.port for running in (first, second)]
        target = f"{scheme}127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}"
        async with AsyncClient(target, tls_ca=ca, timeout_s=20) as client:
            while not (first.engine.calls and second.engine.calls):  # calls go to them in turn
                await client.stream_synthesize("Hello.").read_all()
    async with fake_deployment(**write_pair(tmp_path / "third", *ours.issue("elsewhere"))) as third:
        address = f"127.0.0.1:{third.gateway.server.port}"
        async with AsyncClient(f"ipv4:{address},{address}", tls_ca=ca, timeout_s=20) as client:
            with pytest.raises(UnavailableError, match="certificate is for another name"):
                await client.server_info()


def test_blocking_client_speaks_tls_and_shows_its_certificate(serve: Any, tmp_path: Path) -> None:
    ours, callers = Authority(), Authority()
    files = ours.write(tmp_path) | {"tls_client_ca": callers.write_ca(tmp_path, "callers.crt")}
    ca = ours.write_ca(tmp_path)
    with serve(**files) as server:
        with Client(server.target, **as_caller(tmp_path / "caller", callers, ca)) as client:
            assert len(client.synthesize("Hello.").samples) == 2 * 10 * FRAME_SAMPLES
        with Client(server.target, **as_caller(tmp_path / "other", ours, ca)) as client:
            with pytest.raises(UnavailableError, match="a client certificate that it trusts"):
                client.server_info()


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("another authority", "certificate is not of an authority that is trusted here"),
        ("the usual authorities", "certificate is not of an authority that is trusted here"),
        ("plaintext", "it may want TLS"),
        ("another name", "certificate is for another name"),
    ],
)
async def test_a_refused_tls_client_raises_with_the_reason(case: str, message: str, tmp_path: Path) -> None:
    ours, other = Authority(), Authority()
    files = write_pair(tmp_path, *ours.issue("elsewhere" if case == "another name" else "localhost"))
    options = {
        "another authority": TlsOptions(tls_ca=other.write_ca(tmp_path, "other.crt")),
        "the usual authorities": TlsOptions(tls=True),
        "plaintext": TlsOptions(),
        "another name": TlsOptions(tls_ca=ours.write_ca(tmp_path)),
    }[case]
    async with fake_deployment(**files) as running, AsyncClient(running.target, timeout_s=20, **options) as client:
        with pytest.raises(UnavailableError, match=message):
            await client.server_info()


async def test_a_server_without_tls_has_another_error_than_an_unreachable_one(
    deployment: FakeDeployment, tmp_path: Path
) -> None:
    ca = Authority().write_ca(tmp_path)
    async with AsyncClient(deployment.target, timeout_s=20, tls_ca=ca) as client:
        with pytest.raises(UnavailableError, match="the server does not speak TLS"):
            await client.server_info()


def test_connection_that_is_lost_later_is_not_blamed_on_tls() -> None:
    nothing = grpc.aio.Metadata()
    lost = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, "Socket closed", None)
    assert str(from_rpc_error(lost)) == "Socket closed"


def test_unusable_files_are_named(tmp_path: Path) -> None:
    ours = Authority()
    missing, ca = tmp_path / "missing.crt", ours.write_ca(tmp_path)
    with pytest.raises(TlsFileError, match=r"missing.crt must hold the PEM certificates.*No such file"):
        AsyncClient("localhost:1", tls_ca=missing)
    ca.write_text("no certificate")
    with pytest.raises(TlsFileError, match=r"ca.crt must hold the PEM certificates"):
        Client("localhost:1", tls_ca=ca)
    own = write_pair(tmp_path, ours.issue()[0], ours.issue()[1])  # they do not belong together
    with pytest.raises(TlsFileError, match=r"tls.crt and .*tls.key must be a PEM certificate chain and its unenc"):
        Client("localhost:1", tls=True, **own)
    with pytest.raises(TlsFileError, match="must be given together"):
        Client("localhost:1", tls=True, tls_key=tmp_path / "tls.key")
    with pytest.raises(TlsFileError, match="needs TLS"):
        Client("localhost:1", **own)


def test_the_command_speaks_tls_and_reports_a_wrong_authority(serve: Any, tmp_path: Path, capsys: Any) -> None:
    ours, callers = Authority(), Authority()
    files = ours.write(tmp_path) | {"tls_client_ca": callers.write_ca(tmp_path, "callers.crt")}
    own = callers.write(tmp_path / "caller")
    pair = ["--tls-certificate", str(own["tls_certificate"]), "--tls-key", str(own["tls_key"])]
    with serve(**files) as server:
        target = ["--target", server.target]
        assert main(["serve-info", *target, "--tls-ca", str(ours.write_ca(tmp_path)), *pair]) == 0
        assert "fake/1" in capsys.readouterr().out
        assert main(["serve-info", *target, "--tls", *pair]) == 1
        told = capsys.readouterr().err
        assert f"No server answers at {target[1]}: the server's certificate is not of an authority" in told
    assert main(["serve-info", "--tls-ca", str(tmp_path / "none.crt")]) == 1
    assert "none.crt must hold the PEM certificates" in capsys.readouterr().err
