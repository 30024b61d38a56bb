"""Requests that come, continue, resume and are cancelled in random orders: each gets the same codes as alone.

The model has so few codes that speech ends by chance. Host memory is taken in pages, as on a GPU, in some schedules.
"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from csm_bundle.errors import EngineBusyError, PromptTooLongError
from csm_engine.config import EngineConfig
from csm_engine.execution.frame_step import PackedFrameStep
from csm_engine.execution.weights import PackedWeights, pack
from csm_engine.kv.host_offload import OffloadedKV
from csm_engine.kv.offload_index import OffloadIndex, Page
from csm_engine.kv.slot_pool import SlotPool
from csm_engine.loop.engine import Engine
from csm_engine.model.loader import random_model
from csm_engine.model.tokenizer import TextTokenizer
from csm_engine.scheduling.sequence import Sequence
from csm_engine.types import Codes, FinishReason, GenerationRequest, SamplingParams, Segment
from tests.csm_engine.loop.test_in_flight_steps import SHORT_SPOKEN
from tests.support.clock import Clock

CONFIG = replace(SHORT_SPOKEN, backbone=replace(SHORT_SPOKEN.backbone, max_seq_len=96))
BYTES_PER_POSITION = 2 * 2 * 2 * 8 * 4  # keys and values, layers, kv heads, head dimension, float32
PAGE = Page(8, 8 * BYTES_PER_POSITION)
REQUESTS = 16


@pytest.fixture(scope="module")
def weights() -> PackedWeights:
    return pack(random_model(CONFIG, seed=1))


def random_config(rng: random.Random) -> EngineConfig:
    return EngineConfig(
        slots=rng.choice((1, 2, 5)),
        spare_slots=rng.choice((0, 0, 3)),
        offload_bytes=BYTES_PER_POSITION * rng.choice((0, 50, 200, 2000)),
        prefill_chunk=rng.choice((4, 16, 33, 256)),
        pipeline_depth=rng.choice((0, 1)),
        saturation_batch=rng.choice((1, 2, 64)),
        max_playout_lead_seconds=rng.choice((0.0, 0.5, 2.0)),
        real_time_share=rng.choice((0.0, 0.0, 0.001)),
        max_waiting=rng.choice((1, 3, 50)),
        reserved_frames=10,
    )


def with_pages(engine: Engine, config: EngineConfig) -> None:
    """Uses host memory as on a GPU."""
    engine._offloaded = OffloadedKV(engine._frame_step.backbone.cache, PAGE)
    engine._offload_index = OffloadIndex(config.offload_bytes, BYTES_PER_POSITION, PAGE)
    engine._scheduler._pool = SlotPool(config.slots, config.spare_slots, engine._offload_index)


def random_request(rng: random.Random, name: str, ended: list[Sequence], voice: Segment) -> GenerationRequest:
    """A new request, the next turn of one that has ended, or one of these again, resumed at any of its frames."""
    earlier = rng.choice(ended) if ended and rng.random() < 0.5 else None
    segments, seed, resume = [Segment(0, rng.choice(("Hi", "Hello", "Hello you")))], rng.randrange(6), None
    if earlier is None or not earlier.frames or earlier.request.resume is not None:
        segments = [voice, *segments] if rng.random() < 0.5 else segments
    elif rng.random() < 0.7:
        *context, said = earlier.request.segments
        segments = [*context, replace(said, codes=np.array(earlier.frames)), *segments]
    else:
        segments, seed = list(earlier.request.segments), earlier.request.sampling.seed
        resume = np.array(earlier.frames[: rng.randint(1, len(earlier.frames))])
    return GenerationRequest(
        name, segments, (0 if resume is None else len(resume)) + rng.choice((1, 12, 1000)), SamplingParams(seed=seed),
        resume=resume, live=rng.random() < 0.5, has_listener=rng.random() < 0.3, listener_frames=rng.choice((1, 3)),
        playout_lead_s=rng.choice((-1.0, 0.0, 3.0)), is_followed=rng.random() < 0.3,
    )  # fmt: skip


def check(engine: Engine, limit: int) -> None:
    """Asserts that every slot, entry and byte is accounted for."""
    scheduler, index, entries = engine._scheduler, engine._offload_index, engine._offloaded._entries
    admitted = [*scheduler.prefilling, *scheduler.running]
    assert sorted(item.slot or 0 for item in admitted) == sorted(scheduler._pool._held)
    assert [item.slot for item in scheduler.waiting] == [None] * len(scheduler.waiting)
    assert set(index._entries) == set(entries)
    parts = [part for entry in entries.values() for part in entry]
    assert sum(part.nbytes for part in parts) == engine.offloaded_bytes
    assert sum(part.nbytes for part in [*parts, *engine._offloaded._free_pages]) <= limit


def played(
    engine: Engine, rng: random.Random, clock: Clock, limit: int
) -> tuple[list[Sequence], dict[Sequence, list[Codes]]]:
    """(the sequences that ended by themselves, the delivered frames of each sequence)"""
    voice = Segment(1, "Vox", np.tile(np.array([[1, 2], [3, 1], [2, 4]], np.int16), (5, 1)))
    ended, frames, num_added = list[Sequence](), dict[Sequence, list[Codes]](), 0
    while num_added < REQUESTS or engine.has_work:
        clock.put_forward(rng.choice((0.0, 0.01, 0.1)))
        if num_added < REQUESTS and rng.random() < 0.3:
            num_added += 1
            try:
                frames[engine.add_request(random_request(rng, str(num_added), ended, voice))] = []
            except (EngineBusyError, PromptTooLongError):
                continue
        unfinished = [item for item in frames if item.finish_reason is None]
        if unfinished and rng.random() < 0.03:
            engine.abort(rng.choice(unfinished))
        for output in engine.step() if engine.has_work else []:
            assert output.sequence not in ended and output.sequence.finish_reason is not FinishReason.CANCELLED
            if output.frame is not None:
                frames[output.sequence].append(output.frame)
            if output.finish_reason is not None:
                ended.append(output.sequence)
        check(engine, limit)
    return ended, frames


@pytest.mark.parametrize("seed", [5, 7, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(8, 48))])
def test_any_schedule_gives_each_sequence_the_codes_it_has_alone(
    seed: int, weights: PackedWeights, tokenizer: TextTokenizer, clock: Clock
) -> None:
    rng = random.Random(seed)
    config = random_config(rng)
    engine = Engine(PackedFrameStep(weights, config.total_slots), tokenizer, config, clock=clock)
    if seed % 2:
        with_pages(engine, config)
    ended, frames = played(engine, rng, clock, config.offload_bytes)
    assert not engine._scheduler._pool._held and not engine.num_running and not engine.num_waiting
    assert all(item.finish_reason is not None for item in frames), "none is lost"
    for item in ended:
        alone = Engine(PackedFrameStep(weights, 1), tokenizer, EngineConfig(slots=1, spare_slots=0, reserved_frames=10))
        expected = alone.add_request(item.request)
        while alone.has_work:
            alone.step()
        assert item.finish_reason is expected.finish_reason
        np.testing.assert_array_equal(frames[item], expected.frames)
