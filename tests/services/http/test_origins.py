"""Pages of other sites cannot start work through a browser, nor read anything under another host name."""

from __future__ import annotations

import json

import pytest
from starlette.datastructures import Headers
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from services.http.api.errors import ApiError
from services.http.api.origins import Origins
from services.http.settings import HttpSettings
from tests.support.door.fake_door import FakeDoor

WATERMARK = "/v1/audio/watermark"
RECORDING = {"file": ("a.wav", b"RIFF")}  # a form, which a page may send without a preflight request


def origins(host: str = "127.0.0.1", **names: str) -> Origins:
    return Origins(HttpSettings(host=host, **names))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("headers", "may"),
    [
        ({"origin": "https://bad.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "https://[bad"}, False),
        ({"origin": "http://door:8000", "sec-fetch-site": "cross-site"}, False),
        ({"origin": "http://door:8001", "sec-fetch-site": "same-site"}, False),
        ({"origin": "https://good.example", "sec-fetch-site": "cross-site"}, True),  # of --cors-origins
        ({"origin": "https://door.example", "sec-fetch-site": "same-origin"}, True),  # behind a proxy that sets Host
        ({"origin": "http://door:8000"}, True),
        ({"sec-fetch-site": "none"}, True),  # typed by the user
        ({}, True),  # not from a browser
    ],
)
def test_page_of_another_origin_may_only_read(headers: dict[str, str], may: bool) -> None:
    checked = origins(cors_origins="https://good.example")
    sent = Headers({"host": "door:8000", **headers})
    checked.check_page(sent, "GET")
    for method in ("POST", "DELETE", "WEBSOCKET"):
        if may:
            checked.check_page(sent, method)
        else:
            with pytest.raises(ApiError, match="--cors-origins") as caught:
                checked.check_page(sent, method)
            assert caught.value.status == 403
    origins(cors_origins="*").check_page(sent, "POST")


@pytest.mark.parametrize(
    ("settings", "known", "unknown"),
    [
        (
            {},
            ["localhost:8000", "door.localhost", "LOCALHOST.", "127.0.0.1", "[::1]:8000", "10.0.0.7", ""],
            ["bad.example", "bad.example:8000", "127.0.0.1.bad.example", "localhost.bad.example", "[bad", "a@b@c"],
        ),
        ({"allowed_hosts": "Door.example, b"}, ["door.example:8000", "b", "localhost", "10.0.0.7"], ["bad.example"]),
        ({"allowed_hosts": "*"}, ["bad.example"], []),
        ({"host": "0.0.0.0"}, ["any.example"], []),
        ({"host": "0.0.0.0", "allowed_hosts": "door.example"}, ["door.example", "127.0.0.1"], ["any.example"]),
    ],
)
def test_host_that_is_not_this_server_is_refused(
    settings: dict[str, str], known: list[str], unknown: list[str]
) -> None:
    checked = origins(**settings)
    for host in known:
        checked.check_host(Headers({"host": host}))
    for host in unknown:
        with pytest.raises(ApiError, match="--allowed-hosts"):
            checked.check_host(Headers({"host": host}))


async def test_every_endpoint_is_checked(door: FakeDoor) -> None:
    page, rebound = {"origin": "https://bad.example"}, {"host": "bad.example", "origin": "http://bad.example"}
    for headers, code in ((page, "origin_not_allowed"), (rebound, "host_not_allowed")):
        answer = await door.client.post(WATERMARK, files=RECORDING, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, code)
    assert (await door.client.get("/v1/audio/voices", headers=rebound)).status_code == 403
    own = await door.client.post(WATERMARK, files=RECORDING, headers={"origin": door.url})
    assert own.json()["error"]["code"] == "audio_unreadable"
    with pytest.raises(InvalidStatus) as caught:
        async with connect(
            "ws://bad.example/v1/audio/stream", host="127.0.0.1", port=door.stage.server.port, proxy=None
        ):
            pass
    assert json.loads(caught.value.response.body)["error"]["code"] == "host_not_allowed"
    assert 'method="WEBSOCKET",route="unknown",status="403"' in (await door.client.get("/metrics")).text
