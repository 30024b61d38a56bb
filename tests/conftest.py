"""Fixtures that every test may use."""

from __future__ import annotations

import ast
import gc
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.common import followed_files
from services.common.followed_files import FollowedFiles
from tests.support.clock import Clock

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # a machine with a GPU may lack it; tests there do without
    pass
else:  # an example may take long on a busy machine
    settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy machine")

Listen = Callable[[Callable[[Any, Any], None], object], Awaitable[str]]

# Before anything imports triton: kernels run in its interpreter, on CPU tensors. `make test-gpu` sets it to 0.
os.environ.setdefault("TRITON_INTERPRET", "1")
# Before anything imports torch: tests run beside each other on few cores, and so do the processes that they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests have files looked at themselves (`look_at_files`). A busy machine may hold up a look; tests of files that do not
# answer take a shorter time.
followed_files.LOOK_S = 3600.0
followed_files.MOST_LOOK_S = 60.0
# Gateways of tests keep no voices in the home of who runs them.
os.environ["CSM_GATEWAY_VOICES_DATABASE"] = ""

# Folders of tests whose marker has the same name, and of no others.
FOLDERS_OF_A_MARKER = ("browser", "cluster", "compiled", "gpu", "images", "polyglot")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Folders of which -m takes no test are not read: each process of a run would import all their files."""
    folder, expression = collection_path.name, config.option.markexpr
    if collection_path.parent != Path(__file__).parent or folder not in FOLDERS_OF_A_MARKER:
        return None
    return True if " or " not in expression and f"not {folder}" in expression.split(" and ") else None


def pytest_configure() -> None:
    """Python looks for no garbage while tests are collected: next to nothing is, and each look takes a second."""
    gc.disable()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Each process begins to read the tests elsewhere, so that it finds what others have rewritten for assertions."""
    config, root = session.config, Path(__file__).parents[1]
    process = getattr(config, "workerinput", None)
    if process is None or config.args != config.getini("testpaths"):
        return
    files = [path.relative_to(root) for path in sorted(root.glob("tests/**/test_*.py"))]
    files = [file for file in files if not pytest_ignore_collect(root / "tests" / file.parts[1], config)]
    begin = len(files) * int(process["workerid"].removeprefix("gw")) // process["workercount"]
    config.args[:] = dict.fromkeys("/".join(file.parts[:2]) for file in files[begin:] + files[:begin])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.parts)  # wherever a process began


def pytest_collection_finish() -> None:
    """What was imported and collected, 600,000 objects, is kept out of later looks for garbage."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """Also after a test that asked for more; imports of torch stay where the tests need it."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of this process, for tests of what happens after some time: they put it forward.

    Ask for it before servers: when it goes back, timers of a loop that still stops them are late by as much.
    """
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def look_at_files(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Reloads changed files of all stages of this process that start after it. A stage looks every second by itself."""
    followed = set[FollowedFiles[Any]]()
    load = FollowedFiles.load

    def remember(files: FollowedFiles[Any]) -> None:
        followed.add(files)
        load(files)

    def look() -> None:
        for files in followed:
            files.look()

    monkeypatch.setattr(FollowedFiles, "load", remember)
    return look


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    """Starts a server of its own for a servicer, given what adds it to a server: host:port, in plaintext."""
    import grpc  # few tests need it

    servers = []

    async def start(add_to_server: Callable[[Any, Any], None], servicer: object) -> str:
        server = grpc.aio.server()
        add_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        await server.stop(0)


@pytest.fixture(scope="session")
def imported_names() -> Callable[[Path], Iterator[str]]:
    """Absolute names of what a file imports, wherever in it; a name may be a module or something inside one."""

    def read(file: Path) -> Iterator[str]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    return read
