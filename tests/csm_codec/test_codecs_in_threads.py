"""Several codecs over the same weights, each in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from csm_codec.codec import Codec
from csm_codec.codec_thread import CodecThread
from csm_codec.config import CodecConfig
from csm_codec.mimi.decoder import Form, MimiDecoder
from csm_codec.mimi.loader import load_mimi
from csm_codec.stream import Complete, DecodeStream, Output
from tests.csm_codec.codec_steps import alone_on, pcm_of, some_codes

Array = npt.NDArray[Any]
FRAMES = 5  # of each stream


def arrays(root: object, seen: set[int] | None = None) -> Iterator[Array]:
    """All arrays and tensors that an object of this project refers to."""
    seen = set() if seen is None else seen
    if id(root) in seen:
        return
    seen.add(id(root))
    if isinstance(root, torch.Tensor):
        if root.layout is torch.strided:  # not opaque
            yield (root.view(torch.uint16) if root.dtype is torch.bfloat16 else root).detach().numpy()
    elif isinstance(root, np.ndarray):
        yield root
    elif isinstance(root, dict):
        for value in root.values():
            yield from arrays(value, seen)
    elif isinstance(root, (list, tuple, set)):
        for value in root:
            yield from arrays(value, seen)
    elif type(root).__module__.startswith("csm_codec"):
        names = getattr(root, "__dict__", None) or {
            name: getattr(root, name) for name in getattr(root, "__slots__", ())
        }
        yield from arrays(names, seen)


def memory(codec: Codec) -> list[Array]:
    return [array for array in arrays(codec) if array.size]


def written(codec: Codec) -> list[Array]:
    """What two streams change. A whole run of some frames is compared with the memory before it."""
    before = [(array, array.copy()) for array in memory(codec)]
    alone_on(codec, some_codes(1, FRAMES))
    return [array for array, old in before if not np.array_equal(array, old, equal_nan=array.dtype.kind == "f")]


def test_codecs_share_their_weights_and_nothing_that_they_write(codec: Codec) -> None:
    alone_on(codec, some_codes(0, FRAMES))
    other = codec.with_own_memory()
    alone_on(other, some_codes(0, FRAMES))
    mine, theirs = written(codec), written(other)
    assert len(mine) > 10 and len(theirs) > 10
    assert not [1 for array in mine for theirs_ in memory(other) if np.shares_memory(array, theirs_)]
    assert not [1 for array in theirs for mine_ in memory(codec) if np.shares_memory(array, mine_)]
    largest = max(memory(codec), key=lambda array: array.nbytes)
    assert any(np.shares_memory(largest, array) for array in memory(other))


def test_streams_of_several_threads_at_once_equal_those_of_one(codec: Codec) -> None:
    seeds = range(12)
    expected = [alone_on(codec, some_codes(seed, FRAMES)) for seed in seeds]
    outputs: list[Output] = []
    done = [threading.Event() for _ in range(3)]
    threads: list[CodecThread] = []
    mine: list[list[DecodeStream]] = []
    for number in range(3):
        share = codec if number == 0 else codec.with_own_memory()

        def deliver(new: list[Output], seconds: float, number: int = number) -> None:
            outputs.extend(new)
            if sum(isinstance(output, Complete) and output.stream in mine[number] for output in outputs) == 4:
                done[number].set()

        threads.append(CodecThread(share, deliver, fail=lambda error: None, torch_threads=1))
    for thread in threads:
        thread.start()
        mine.append([thread.open().result(timeout=60) for _ in range(4)])
    for number, thread in enumerate(threads):
        for seed, stream in zip(seeds[4 * number :], mine[number], strict=False):
            thread.push(stream, some_codes(seed, FRAMES))
            thread.finish(stream)
    for one, thread in zip(done, threads, strict=True):
        assert one.wait(timeout=60)
        thread.stop()
    for seed, stream in zip(seeds, sum(mine, []), strict=True):
        assert np.array_equal(pcm_of(outputs, stream), expected[seed])


def test_a_thread_computes_with_as_many_torch_threads_as_it_is_given(codec: Codec) -> None:
    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    counts = []
    try:
        for number in (None, 1):
            thread = CodecThread(codec, lambda outputs, _: None, lambda error: None, torch_threads=number)
            thread.start()
            counts.append(thread.worker.call(torch.get_num_threads, RuntimeError("stopped")).result(timeout=60))
            thread.stop()
        assert counts == [3, 1] and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(usual)


@pytest.mark.parametrize("form", [Form.BATCH, Form.MODULES])
def test_other_forms_refuse_to_share_weights(mimi_folder: Path, form: Form) -> None:
    decoder = MimiDecoder(load_mimi(mimi_folder), num_lanes=1, lane_width=2, form=form)
    with pytest.raises(TypeError, match="FRAMES"):
        decoder.with_own_memory()


@pytest.mark.parametrize(
    ("slots", "lane_width", "threads", "codecs", "lanes", "width"),
    [
        (16, 0, 1, 1, 2, 8),
        (16, 0, 2, 2, 1, 8),
        (16, 0, 8, 8, 1, 2),
        (16, 0, 64, 16, 1, 1),
        (4, 0, 3, 3, 1, 2),
        (9, 0, 1, 1, 2, 5),  # ten slots, not sixteen
        (100, 0, 3, 3, 5, 7),
        (16, 8, 8, 2, 1, 8),  # no more codecs than lanes of the width that is asked for
        (2, 8, 1, 1, 1, 2),
        (20, 8, 1, 1, 3, 8),
        (20, 8, 3, 3, 1, 8),  # the width that is asked for, whatever the threads
    ],
)
def test_threads_share_the_slots_evenly(
    slots: int, lane_width: int, threads: int, codecs: int, lanes: int, width: int
) -> None:
    config = CodecConfig(slots=slots, lane_width=lane_width)
    assert config.num_codecs(threads) == codecs
    assert config.lanes(codecs, on_cpu=True) == (lanes, width)
    assert codecs * lanes * width >= slots


def test_on_a_gpu_all_slots_are_one_lane() -> None:
    assert CodecConfig(slots=300).lanes(1, on_cpu=False) == (1, 300)
    assert CodecConfig(slots=300, lane_width=64).lanes(1, on_cpu=False) == (5, 64)
