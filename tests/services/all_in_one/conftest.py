"""The whole server, real engine, codec and gRPC, over a tiny bundle and over the built-in voice. Loading takes
seconds, so each is shared."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import csm_client
import grpc
import pytest
from csm.v1 import tts_pb2_grpc

from services.all_in_one.settings import AllInOneSettings
from services.all_in_one.stage import start_all_in_one
from tests.support.tiny.bundle import write_tiny_bundle

BUILTIN = Path(__file__).parents[3] / "bundles" / "builtin"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    write_tiny_bundle(folder, num_codebooks=4)  # what is said of it does not depend on their number
    return folder


@pytest.fixture(scope="session")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "watermark_keys.json"


@pytest.fixture(scope="session")
def target(bundle: Path, keyring: Path) -> Iterator[str]:
    """The address of a server with the tiny bundle."""
    with running_server(bundle, keyring) as address:
        yield address


@pytest.fixture(scope="session")
def voice_target(keyring: Path) -> Iterator[str]:
    """The address of a server with the built-in voice, which does not seal codes, so that they can be compared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CSM_GATEWAY_CODE_SEALING", "open")
        with running_server(BUILTIN, keyring) as address:
            patch.undo()
            yield address


@pytest.fixture(scope="session")
def sealing_tts(keyring: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A stub of a server with the built-in voice that seals codes, and so has checkpoints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CSM_GATEWAY_CODE_SEALING_KEYRING", str(tmp_path_factory.mktemp("keys") / "seals.json"))
        with running_server(BUILTIN, keyring) as address, grpc.insecure_channel(address) as channel:
            patch.undo()
            yield tts_pb2_grpc.TextToSpeechServiceStub(channel)  # type: ignore[no-untyped-call]


def small_settings(bundle: Path, keyring: Path, **more: Any) -> AllInOneSettings:
    fixed: dict[str, Any] = {
        "bundle": str(bundle),
        "watermark_keyring": keyring,
        "port": 0,
        "health_port": 0,
        "metrics_port": -1,
        "http_port": -1,
        "slots": 2,
        "threads": 1,
        "drain_seconds": 0,
    }
    return AllInOneSettings(**(fixed | more))


@pytest.fixture
def traced_settings(bundle: Path, keyring: Path, collector: Any) -> AllInOneSettings:
    return small_settings(bundle, keyring, trace_endpoint=collector.endpoint)


@contextmanager
def running_server(bundle: Path, keyring: Path) -> Iterator[str]:
    """Its event loop has its own thread."""
    settings = small_settings(bundle, keyring)
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, str]] = Future()

    async def serve() -> None:
        try:
            stage = await start_all_in_one(settings, lambda line: None)
        except BaseException as error:
            started.set_exception(error)
            raise
        stop = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stop, f"127.0.0.1:{stage.server.port}"))
        await stop.wait()
        await stage.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    loop, stop, address = started.result()  # on a busy machine loading takes minutes: the test's own limit bounds it
    yield address
    loop.call_soon_threadsafe(stop.set)
    thread.join()


@pytest.fixture
def client(target: str) -> Iterator[csm_client.Client]:
    with csm_client.Client(target, timeout_s=100) as opened:
        yield opened
