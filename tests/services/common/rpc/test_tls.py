"""TLS on the API port: which clients are accepted, and certificates that are replaced while it runs."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from csm.codec.v1 import codec_pb2, codec_pb2_grpc

from services.common import followed_files
from services.common.rpc.server import StageServer, StageService
from services.common.rpc.tls import TlsFileError, stage_credentials
from services.common.settings import StageSettings, load_settings
from tests.support.authority import Authority, end_s, write_pair
from tests.support.network.hanging_file import hanging
from tests.support.waits import eventually

NAME = "csm.codec.v1.CodecService"


class Codec(codec_pb2_grpc.CodecServiceServicer):
    async def GetCodecInfo(self, request: Any, context: Any) -> Any:
        return codec_pb2.GetCodecInfoResponse(notice="fine")


@asynccontextmanager
async def serving(**files: Any) -> Any:
    add = codec_pb2_grpc.add_CodecServiceServicer_to_server
    server = StageServer(StageSettings(host="127.0.0.1", **files), [StageService(add, Codec(), NAME)])
    try:
        await server.start()
        yield server
    finally:
        await server.drain(0)


async def ask(server: StageServer, credentials: grpc.ChannelCredentials | None) -> str:
    """Calls over a new connection. Returns the answer, or the name of the status."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    target = f"localhost:{server.port}"
    if credentials is None:
        channel = grpc.aio.insecure_channel(target, options)
    else:
        channel = grpc.aio.secure_channel(target, credentials, options)
    async with channel:
        try:
            stub = codec_pb2_grpc.CodecServiceStub(channel)
            return (await stub.GetCodecInfo(codec_pb2.GetCodecInfoRequest(), timeout=60)).notice
        except grpc.aio.AioRpcError as error:
            return error.code().name


async def test_only_a_client_that_trusts_the_authority_connects(tmp_path: Path) -> None:
    ours, other = Authority(), Authority()
    async with serving(**ours.write(tmp_path)) as server:
        assert await ask(server, grpc.ssl_channel_credentials(ours.pem)) == "fine"
        assert await ask(server, grpc.ssl_channel_credentials(other.pem)) == "UNAVAILABLE"
        assert await ask(server, None) == "UNAVAILABLE"


async def test_client_without_a_certificate_of_the_authority_is_refused(tmp_path: Path) -> None:
    ours, other = Authority(), Authority()
    async with serving(**ours.write(tmp_path), tls_client_ca=ours.write_ca(tmp_path)) as server:
        assert await ask(server, grpc.ssl_channel_credentials(ours.pem, *ours.issue())) == "fine"
        assert await ask(server, grpc.ssl_channel_credentials(ours.pem)) == "UNAVAILABLE"
        assert await ask(server, grpc.ssl_channel_credentials(ours.pem, *other.issue())) == "UNAVAILABLE"


async def test_files_may_hold_two_authorities_while_one_replaces_the_other(tmp_path: Path) -> None:
    old, new, other = Authority(), Authority(), Authority()
    (tmp_path / "both.crt").write_bytes(old.pem + new.pem)
    both = (tmp_path / "both.crt").read_bytes()
    for servers in (old, new):
        async with serving(**servers.write(tmp_path), tls_client_ca=tmp_path / "both.crt") as server:
            for callers, answer in ((old, "fine"), (new, "fine"), (other, "UNAVAILABLE")):
                assert await ask(server, grpc.ssl_channel_credentials(both, *callers.issue())) == answer


async def test_replaced_certificate_is_taken_up_and_a_broken_one_is_not(
    tmp_path: Path, look_at_files: Callable[[], None]
) -> None:
    first, second = Authority(), Authority()
    async with serving(**first.write(tmp_path)) as server:
        assert await ask(server, grpc.ssl_channel_credentials(first.pem)) == "fine"
        second.write(tmp_path)
        look_at_files()
        assert await ask(server, grpc.ssl_channel_credentials(second.pem)) == "fine"
        assert await ask(server, grpc.ssl_channel_credentials(first.pem)) == "UNAVAILABLE"
        write_pair(tmp_path, first.issue()[0], first.issue()[1])  # a key of another certificate
        look_at_files()
        assert await ask(server, grpc.ssl_channel_credentials(second.pem)) == "fine"
        for outcome in ("used", "refused"):
            labels = {"setting": "tls_certificate", "outcome": outcome}
            assert server.metrics.registry.get_sample_value("stage_file_reloads_total", labels) == 1
        seen, setting = server.metrics.registry.get_sample_value, {"setting": "tls_certificate"}
        assert seen("stage_file_refused", setting) == 1
        first.write(tmp_path)
        look_at_files()
        assert await ask(server, grpc.ssl_channel_credentials(first.pem)) == "fine"
        assert seen("stage_file_refused", setting) == 0


async def test_end_of_the_certificate_in_use_is_shown_also_before_the_next_handshake(
    tmp_path: Path, look_at_files: Callable[[], None]
) -> None:
    authority = Authority()

    def shown_end_s() -> float | None:
        labels = {"setting": "tls_certificate"}
        return server.metrics.registry.get_sample_value("stage_certificate_not_after_timestamp_seconds", labels)

    files = authority.write(tmp_path)
    async with serving(**files) as server:
        assert shown_end_s() == end_s(files["tls_certificate"].read_bytes())
        new = authority.issue(ends=datetime(2049, 1, 2, tzinfo=UTC))
        write_pair(tmp_path, *new)
        look_at_files()
        assert shown_end_s() == end_s(new[1])
        write_pair(tmp_path, b"no key", authority.issue()[1])
        look_at_files()
        assert shown_end_s() == end_s(new[1])
    async with serving() as server:
        assert shown_end_s() is None


async def test_a_certificate_that_does_not_answer_holds_up_neither_handshakes_nor_scrapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No new connection came about, and metrics were not answered."""
    monkeypatch.setattr(followed_files, "LOOK_S", 0.05)
    monkeypatch.setattr(followed_files, "MOST_LOOK_S", 0.5)
    ours = Authority()
    files = ours.write(tmp_path)
    async with serving(**files, metrics_port=0) as server:

        async def scraped() -> str:
            async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
                return (await client.get(f"http://127.0.0.1:{server.metrics_port}/metrics")).text

        credentials = grpc.ssl_channel_credentials(ours.pem)
        with hanging(files["tls_certificate"]):
            while 'stage_file_refused{setting="tls_certificate"} 1.0' not in await scraped():
                assert await ask(server, credentials) == "fine"
            assert await ask(server, credentials) == "fine"
        ours.write(tmp_path)
        assert await ask(server, credentials) == "fine"
        seen = server.metrics.registry.get_sample_value
        await eventually(lambda: seen("stage_file_refused", {"setting": "tls_certificate"}) == 0)


async def test_unusable_file_stops_the_start_and_names_the_flag(tmp_path: Path) -> None:
    files = write_pair(tmp_path, b"no key", b"no certificate")
    with pytest.raises(TlsFileError, match="--tls-certificate .*tls.crt and --tls-key .*tls.key must be"):
        async with serving(**files):
            pass


@pytest.mark.parametrize("flag", ["--tls-certificate", "--tls-key", "--tls-client-ca"])
def test_half_of_the_tls_flags_stops_the_start(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load_settings(StageSettings, [flag, "x.pem"])
    assert "--tls-certificate and --tls-key" in capsys.readouterr().err


async def test_files_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """OpenSSL skips it and gRPC does not: it was "Cannot listen", or no caller was trusted."""
    ours = Authority()
    files = ours.write(tmp_path) | {"tls_client_ca": ours.write_ca(tmp_path)}
    for path in files.values():
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    own = {"certificate": files["tls_certificate"], "key": files["tls_key"]}
    async with serving(**files) as server:
        credentials = stage_credentials(files["tls_client_ca"], **own).current.credentials
        assert await ask(server, credentials) == "fine"
