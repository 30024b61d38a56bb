"""How functions are captured, with a fake torch.cuda. tests/gpu runs captures on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from csm_bundle.runtime.captured import Captured, capture, graph_pool, use_own_stream

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")


@dataclass(eq=False)
class FakeStream:
    device: torch.device
    waited_for: list[object] = field(default_factory=list)

    def wait_stream(self, other: object) -> None:
        self.waited_for.append(other)


class FakeGraph:
    def __init__(self) -> None:
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1


class FakeCuda:
    """A fake torch.cuda that records streams and captures."""

    def __init__(self) -> None:
        self.main = self.current = FakeStream(CUDA)
        self.captures: list[tuple[object, object, str]] = []  # stream, pool, what other threads may do
        self.is_capturing = False
        self.calls: list[tuple[str, object]] = []

    def synchronize(self, device: torch.device) -> None:
        self.calls.append(("synchronize", device))

    def set_stream(self, stream: FakeStream) -> None:
        self.calls.append(("set_stream", stream))
        self.current = stream

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    @contextmanager
    def graph(self, graph: FakeGraph, *, pool: object, stream: FakeStream, capture_error_mode: str) -> Iterator[None]:
        self.captures.append((stream, pool, capture_error_mode))
        self.is_capturing = True
        with self.stream(stream):
            yield
        self.is_capturing = False


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    cuda, handles = FakeCuda(), iter(range(99))
    stands_in: dict[str, Any] = {
        "Stream": FakeStream,
        "CUDAGraph": FakeGraph,
        "current_stream": lambda device: cuda.current,
        "stream": cuda.stream,
        "graph": cuda.graph,
        "synchronize": cuda.synchronize,
        "set_stream": cuda.set_stream,
        "graph_pool_handle": lambda: next(handles),
    }
    for name, value in stands_in.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return cuda


def test_graphs_of_one_pool_share_its_memory_and_its_stream(cuda: FakeCuda) -> None:
    pool = graph_pool(CUDA)
    for _ in range(3):
        Captured(lambda: None, CUDA, pool)
    assert len({(id(stream), handle) for stream, handle, _ in cuda.captures}) == 1 and len(cuda.captures) == 3
    Captured(lambda: None, CUDA)
    assert cuda.captures[3][:2] != cuda.captures[0][:2]


def test_a_function_is_run_before_on_the_stream_of_the_capture_and_then_only_replayed(cuda: FakeCuda) -> None:
    runs: list[tuple[object, bool]] = []
    captured = Captured(lambda: runs.append((cuda.current, cuda.is_capturing)), CUDA)
    ((stream, _, mode),) = cuda.captures
    assert runs == [(stream, False), (stream, False), (stream, True)]
    assert mode == "thread_local" and cuda.current is cuda.main
    captured()
    assert len(runs) == 3 and captured._graph.replays == 1  # type: ignore[attr-defined]


def test_work_before_and_behind_a_capture_is_waited_for(cuda: FakeCuda) -> None:
    pool = graph_pool(CUDA)
    assert pool is not None
    _, result = capture(torch.is_inference_mode_enabled, pool)
    assert result is True  # what the function returned, and the mode in which every graph is captured
    assert pool.stream.waited_for == [cuda.main] and cuda.main.waited_for == [pool.stream]  # type: ignore[attr-defined]


def test_a_thread_gets_a_stream_of_its_own_when_earlier_work_is_done(cuda: FakeCuda) -> None:
    use_own_stream(CUDA)
    assert cuda.calls == [("synchronize", CUDA), ("set_stream", cuda.current)] and cuda.current is not cuda.main
    cuda.calls.clear()
    use_own_stream(CPU)
    assert not cuda.calls


def test_without_a_gpu_the_function_itself_runs() -> None:
    runs: list[int] = []
    function: Callable[[], None] = lambda: runs.append(1)  # noqa: E731
    captured = Captured(function, CPU, graph_pool(CPU))
    assert graph_pool(CPU) is None and not runs
    captured()
    assert runs == [1]
