"""TLS at the door: who gets in, and certificates that are replaced while it runs."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.common import followed_files
from services.http.settings import HttpSettings
from services.http.stage import start_http
from tests.support.authority import Authority, end_s, write_pair
from tests.support.door.fake_door import FakeDoor, fake_door
from tests.support.network.hanging_file import hanging
from tests.support.waits import eventually

SPEECH = "/v1/audio/speech"
ENDS = "stage_certificate_not_after_timestamp_seconds"


def shown_end_s(door: FakeDoor, setting: str = "tls_certificate") -> float | None:
    """What a scrape says now."""
    return door.stage.door.metrics.registry.get_sample_value(ENDS, {"setting": setting})


async def test_tls_with_client_certificates(
    tmp_path: Path, body: dict[str, Any], look_at_files: Callable[[], None]
) -> None:
    authority = Authority()
    files = authority.write(tmp_path / "server")
    ca = authority.write_ca(tmp_path)
    own = authority.write(tmp_path / "client")
    async with fake_door(**files, tls_client_ca=ca) as door:
        url = door.url.replace("http", "https", 1) + SPEECH
        context = ssl.create_default_context(cafile=str(ca))
        async with httpx.AsyncClient(verify=context, trust_env=False) as client:
            with pytest.raises(httpx.TransportError):
                await client.post(url, json=body)
        context.load_cert_chain(own["tls_certificate"], own["tls_key"])
        for _ in range(2):
            async with httpx.AsyncClient(verify=context, trust_env=False) as client:
                assert (await client.post(url, json=body)).status_code == 200
            authority.write(tmp_path / "server")  # another certificate: clients' ones are still known
            look_at_files()


async def test_replaced_certificate_is_used_and_a_wrong_one_is_not(
    tmp_path: Path, look_at_files: Callable[[], None]
) -> None:
    old, new = Authority(), Authority()
    files = old.write(tmp_path)
    async with fake_door(**files) as door:
        url = door.url.replace("http", "https", 1) + "/healthz"

        async def answers_to(authority: Authority) -> bool:
            context = ssl.create_default_context(cadata=authority.pem.decode())
            async with httpx.AsyncClient(verify=context, trust_env=False) as client:
                try:
                    return (await client.get(url)).status_code == 200
                except httpx.TransportError:
                    return False

        assert await answers_to(old) and not await answers_to(new)
        new.write(tmp_path)
        look_at_files()
        assert await answers_to(new) and not await answers_to(old)
        files["tls_key"].write_text("no key")
        look_at_files()
        assert await answers_to(new)
        for outcome in ("used", "refused"):
            labels = {"setting": "tls_certificate", "outcome": outcome}
            assert door.stage.door.metrics.registry.get_sample_value("stage_file_reloads_total", labels) == 1


async def test_a_certificate_that_does_not_answer_stops_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handshakes run in the event loop."""
    monkeypatch.setattr(followed_files, "LOOK_S", 0.05)
    monkeypatch.setattr(followed_files, "MOST_LOOK_S", 0.5)
    ours = Authority()
    files = ours.write(tmp_path)
    async with fake_door(**files) as door:
        url = door.url.replace("http", "https", 1) + "/healthz"
        context = ssl.create_default_context(cadata=ours.pem.decode())
        with hanging(files["tls_certificate"]):
            for _ in range(2):
                async with httpx.AsyncClient(verify=context, trust_env=False, timeout=60) as client:
                    assert (await client.get(url)).status_code == 200


async def test_another_connection_to_the_gateway_needs_no_answer_of_the_authority_s_file(
    tmp_path: Path, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call opens it, in the event loop."""
    monkeypatch.setattr(followed_files, "LOOK_S", 0.05)
    monkeypatch.setattr(followed_files, "MOST_LOOK_S", 0.5)
    ours = Authority()
    ca = ours.write_ca(tmp_path)
    async with fake_door(ours.write(tmp_path), gateway_tls_ca=ca, gateway_streams_per_connection=1) as door:
        script = door.behind.engine.script
        script.pause_at = 3
        with hanging(ca):
            asked = [asyncio.create_task(door.client.post(SPEECH, json=body)) for _ in range(3)]
            await eventually(lambda: len(door.behind.engine.calls) == 3)
            script.resume.set()
            assert [answer.status_code for answer in await asyncio.gather(*asked)] == [200] * 3
        assert len(door.stage.door.upstream.channels.num_calls) == 3


async def test_wrong_tls_file_is_named(tmp_path: Path) -> None:
    """With its flag, also if it is the client's."""
    wrong = tmp_path / "x.pem"
    wrong.write_text("no certificate")
    good = Authority().write(tmp_path / "good")
    for settings, said in (
        ({"tls_certificate": wrong, "tls_key": wrong}, f"--tls-certificate {wrong} and --tls-key {wrong} cannot"),
        ({**good, "tls_client_ca": wrong}, f"--tls-client-ca {wrong} cannot"),
        ({"gateway_tls_ca": wrong}, f"--gateway-tls-ca, .*: {wrong} must hold"),
    ):
        with pytest.raises(OSError, match=said):
            await start_http(HttpSettings(port=0, **settings))


async def test_end_of_the_certificate_in_use_is_shown_also_before_the_next_handshake(
    tmp_path: Path, look_at_files: Callable[[], None]
) -> None:
    authority = Authority()
    files = authority.write(tmp_path)
    async with fake_door(**files) as door:
        assert shown_end_s(door) == end_s(files["tls_certificate"].read_bytes())
        new = authority.issue(ends=datetime(2049, 1, 2, tzinfo=UTC))
        write_pair(tmp_path, *new)
        look_at_files()
        assert shown_end_s(door) == end_s(new[1])
        write_pair(tmp_path, b"no key", authority.issue()[1])
        look_at_files()
        assert shown_end_s(door) == end_s(new[1])


async def test_end_of_the_certificate_for_the_gateway_is_shown(tmp_path: Path) -> None:
    authority = Authority()
    own = authority.write(tmp_path)
    files = {"gateway_tls_certificate": own["tls_certificate"], "gateway_tls_key": own["tls_key"]}
    async with fake_door(gateway_tls_ca=authority.write_ca(tmp_path), **files) as door:
        assert shown_end_s(door, "gateway_tls_certificate") == end_s(own["tls_certificate"].read_bytes())
        assert shown_end_s(door) is None


async def test_metrics_of_a_door_without_tls_show_no_certificate(door: FakeDoor) -> None:
    assert "stage_certificate_not_after_timestamp_seconds{" not in (await door.client.get("/metrics")).text
