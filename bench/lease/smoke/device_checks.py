"""Checks of the machine, and of what the project assumes of torch and CUDA."""

from __future__ import annotations

import importlib
import platform
import threading
from collections import Counter
from pathlib import Path

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]

from bench.lease.options import Given
from bench.lease.parts import PARTS
from bench.lease.wheels.lists import WHEELS
from csm_bundle.runtime.captured import Captured, graph_pool, host_room, on_device, on_host
from tests.support.kernels.host_syncs import host_syncs_refused

ROOT = Path(__file__).parents[3]


def machine(given: Given) -> dict[str, object]:
    told: dict[str, object] = {"python": platform.python_version(), "torch": torch.__version__}
    if given.on_gpu:
        import triton

        properties = torch.cuda.get_device_properties(given.device)
        told |= {
            "triton": triton.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "name": properties.name,
            "multiprocessors": properties.multi_processor_count,
            "gib": round(properties.total_memory / 2**30, 1),
            "l2_mib": round(properties.L2_cache_size / 2**20),
        }
    return told


def programs_are_imported(given: Given) -> dict[str, object]:
    """Imports every part that has the same wheels, every file of device tests, and the package that the watermark is
    compared with. It reports all failures together.
    """
    modules = ["silentcipher.server"]
    modules += [part.arguments[1] for part in PARTS if part.wheels is WHEELS and part.arguments[1] != "pytest"]
    modules += [f"tests.gpu.{file.stem}" for file in sorted((ROOT / "tests" / "gpu").glob("test_*.py"))]
    missing = {}
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:
            missing[module] = f"{type(error).__name__}: {error}"
    assert not missing, missing
    return {"modules": len(modules)}


def copies_wait_for_nothing(given: Given) -> dict[str, object]:
    """Copies from pinned host memory do not block, even if that memory is freed while they are under way."""
    targets = torch.zeros(8, 64, 4096, device=given.device)
    with host_syncs_refused(given.on_gpu):
        for value, target in enumerate(targets):
            room = host_room((64, 4096), torch.float32, given.device)
            room.fill_(value)
            target.copy_(room, non_blocking=True)
        rows = on_device(torch.arange(64), given.device)
    assert on_host(targets).mean((1, 2)).tolist() == on_host(rows)[:8].tolist()
    return {"pinned": room.is_pinned() if given.on_gpu else None}


def a_graph_is_captured_beside_another_thread(given: Given) -> dict[str, object]:
    """The other thread allocates, launches and synchronizes meanwhile, as a stage's threads may."""
    x, y = torch.ones(2, 256, 256, device=given.device)
    ended, turns = threading.Event(), 0

    def work() -> None:
        nonlocal turns
        while not ended.is_set():
            host_room((turns % 7 + 1, 1000), torch.float32, given.device)
            on_host(torch.full((turns % 7 + 1, 1000), 2.0, device=given.device) * 3)
            turns += 1

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        graphs = [Captured(lambda: torch.mm(x, x, out=y), given.device) for _ in range(8)]  # type: ignore[arg-type]
    finally:
        ended.set()
        thread.join()
    y.zero_()
    graphs[-1]()
    assert y.eq(256).all()
    return {"turns": turns}


def graphs_of_a_pool_share_memory(given: Given) -> dict[str, object]:
    """Eight graphs that need 64 MiB for a moment share that memory, and a product's workspace."""
    if not given.on_gpu:
        return {}
    x = torch.ones(2**12, 2**12, device=given.device)
    y = torch.empty_like(x)
    pool = graph_pool(given.device)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved(given.device)
    graphs = [Captured(lambda: y.copy_(x @ x), given.device, pool) for _ in range(8)]  # type: ignore[arg-type]
    torch.cuda.empty_cache()
    reserved = torch.cuda.memory_reserved(given.device) - before
    assert len(graphs) * 2**26 > reserved, f"{reserved} bytes"
    return {"mib": reserved >> 20}


def a_replay_is_one_launch(given: Given) -> dict[str, object]:
    """The profiler shows it, which `kernel_profile` and some tests need to work here."""
    x = torch.ones(64, device=given.device)

    def function() -> None:
        for _ in range(5):
            x.add_(1)

    captured = Captured(function, given.device)
    if not given.on_gpu:
        return {}
    captured()
    with torch.profiler.profile(acc_events=True) as profile:
        captured()
        torch.cuda.synchronize(given.device)
    calls = Counter(event.name for event in profile.events() if event.name.startswith("cu"))
    kernels = events_on(DeviceType.CUDA, profile)
    assert calls["cudaGraphLaunch"] == 1 and calls["cudaLaunchKernel"] == 0 and kernels >= 5, (calls, kernels)
    return {"kernels": kernels}


def events_on(kind: DeviceType, profile: torch.profiler.profile) -> int:
    """The number of a profile's events on that kind of device, which is compared by value."""
    return sum(event.device_type == kind for event in profile.events())
