"""Launches of a frame prefetch what later ones read, once and in the right place; and the model of what that saves."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from bench.kernel_proof.operations import Traffic
from bench.kernel_proof.prefetch_model import CACHE_BYTES_PER_US, TAIL_US, saved_us

FRAMES = """
from functools import partial
from bench.kernel_proof.fast_step import frame, new_traced_step
from bench.kernel_proof.operations import count, storage_of
from bench.kernel_proof.pretended_gpu import pretended_gpu
for form, batches in (("int8-depth-kernel", (1, 64, 256)), ("depth-kernel", (64,)), ("int8", (64,))):
    with pretended_gpu(lambda launch: None):
        step = new_traced_step(form, 256)
    names = {}
    for number, layer in enumerate(step.weights.backbone.layers):
        for name in ("qkv", "out", "gate_up", "down"):
            names[storage_of(getattr(layer, name).values)] = name, number
    for number, cache in enumerate(step.backbone.cache.layers):
        names[storage_of(cache.keys)], names[storage_of(cache.values)] = ("keys", number), ("values", number)
    for batch in batches:
        traffic = count(partial(frame, step, batch)).traffic
        prefetched = [(names[storage], launch) for launch, one in enumerate(traffic) for storage in one.prefetched]
        read = [(names[s], launch) for launch, one in enumerate(traffic) for s in one.touched if s in names]
        apart = [dict(read)[name] - launch for name, launch in prefetched]
        assert len(dict(prefetched)) == len(prefetched) and len(dict(read)) == len(read)
        missing = sorted(dict(read).keys() - dict(prefetched).keys())
        print(form, batch, len(prefetched), sorted(set(apart)), missing if prefetched else "")
"""


def test_a_frame_prefetches_each_layer_s_weights_and_keys_once_before_it_reads_them(
    compiling: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """With the depth decoder's kernel over eight bits, in its batches. What is read first of layer 0 is not.

    Each is prefetched one launch ahead or two: more would not fit into the L2 cache.
    """
    done = compiling("-c", FRAMES)
    first = "[('keys', 0), ('qkv', 0), ('values', 0)]"
    assert done.stdout.splitlines()[-5:] == [
        f"int8-depth-kernel 1 93 [1, 2] {first}",
        f"int8-depth-kernel 64 93 [1, 2] {first}",
        "int8-depth-kernel 256 0 [] ",
        "depth-kernel 64 0 [] ",
        "int8 64 0 [] ",
    ], done.stderr[-3000:]


def saved(*traffic: Traffic, beside: float = 4.0) -> float:
    launches: Any = [SimpleNamespace(name="any")] * len(traffic)
    return saved_us(launches, traffic, lambda name: beside, 1e6)


def test_prefetched_bytes_take_the_cache_s_time_in_place_of_memory_s() -> None:
    size = 10_000_000
    prefetches, idle, reads = Traffic({}, {7: size}), Traffic({}, {}), Traffic({7: size}, {})
    assert saved(prefetches, idle, idle, idle, reads) == pytest.approx(10 - size / CACHE_BYTES_PER_US)


def test_a_launch_does_not_end_before_its_prefetched_bytes_have_come() -> None:
    size = 10_000_000
    assert saved(Traffic({}, {7: size}), Traffic({7: size}, {})) == pytest.approx(4.0 - TAIL_US)
    assert saved(Traffic({}, {7: size, 8: size}), Traffic({8: size}, {})) == pytest.approx(4.0 - TAIL_US - 10)


def test_launches_save_nothing_without_a_prefetch() -> None:
    assert saved(Traffic({1: 100}, {}), Traffic({1: 100}, {})) == 0.0
