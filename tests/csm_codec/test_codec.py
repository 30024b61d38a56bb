"""The codec's step: streams do not affect each other, nor do their faults, and no unmarked audio gets out."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from csm_bundle.errors import CodecBusyError, CodecError, CodecStoppedError, KeyringError
from csm_codec.codec import MOST_FAILED_STEPS, Codec
from csm_codec.codec_thread import CodecThread
from csm_codec.mimi.decoder import Form
from csm_codec.stream import Audio, Complete, DecodeOptions, DecodeStream, Failed, Output, StreamStart
from tests.csm_codec.codec_steps import alone_on, pcm_of, run_all, small_codec, some_codes


def test_pushes_of_any_size_give_the_same_audio_bit_for_bit(codec: Codec) -> None:
    whole = alone_on(codec, some_codes(0))
    assert len(whole) == 12 * 1920
    stream, outputs = codec.open(), []
    for piece in np.split(some_codes(0), [1, 2, 7]):
        codec.push(stream, piece)
        outputs += run_all(codec)
    codec.finish(stream)
    outputs += run_all(codec)
    assert np.array_equal(pcm_of(outputs, stream), whole)
    assert [type(output) for output in outputs].count(Complete) == 1
    assert isinstance(outputs[-1], Complete)


def test_streams_that_join_and_leave_do_not_change_each_other(codec: Codec) -> None:
    alone = [alone_on(codec, some_codes(seed)) for seed in range(4)]
    streams, outputs = [], []
    for seed in range(4):  # one joins with every step
        stream = codec.open()
        streams.append(stream)
        codec.push(stream, some_codes(seed))
        codec.finish(stream)
        outputs += codec.step()
    outputs += run_all(codec)
    for stream, expected in zip(streams, alone, strict=True):
        assert np.array_equal(pcm_of(outputs, stream), expected)


def test_slots_are_limited_and_a_cancel_frees_one(codec: Codec) -> None:
    streams = [codec.open() for _ in range(4)]
    with pytest.raises(CodecBusyError, match="All 4"):
        codec.open()
    codec.push(streams[1], some_codes(0))
    codec.step()
    codec.cancel(streams[1])
    codec.cancel(streams[1])
    assert codec.num_streams == 3 and not codec.has_work
    codec.push(streams[1], some_codes(0))
    assert not codec.has_work
    codec.cancel(streams[0])
    codec.cancel(streams[2])
    codec.cancel(streams[3])
    again = alone_on(codec, some_codes(5))
    assert np.array_equal(again, alone_on(codec, some_codes(5)))


def test_an_unknown_key_takes_no_slot(codec: Codec) -> None:
    with pytest.raises(KeyringError):
        codec.open(DecodeOptions(key_id="lost"))
    assert codec.num_streams == 0


def test_a_fault_fails_its_lane_and_no_other(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = alone_on(codec, some_codes(9))
    streams = [codec.open() for _ in range(3)]  # two in the first lane, one in the second
    for stream in streams:
        codec.push(stream, some_codes(9))
        codec.finish(stream)
    outputs = codec.step()
    frame_step = codec._decoder.frame_step

    def fail_in_first_lane(lane: int, *arguments: object) -> object:
        if lane == 0:
            raise RuntimeError("out of luck")
        return frame_step(lane, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(codec._decoder, "frame_step", fail_in_first_lane)
    outputs += codec.step()
    monkeypatch.undo()
    outputs += run_all(codec)
    failed = [output for output in outputs if isinstance(output, Failed)]
    assert {output.stream for output in failed} == set(streams[:2])
    assert all(type(output.error) is CodecError and "out of luck" not in str(output.error) for output in failed)
    assert np.array_equal(pcm_of(outputs, streams[2]), expected)
    assert np.array_equal(alone_on(codec, some_codes(9)), expected)


def test_a_codec_that_only_fails_its_streams_fails_itself(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Audio of any stream among them starts the count again, but not the progress of one that catches up."""

    def fail(*arguments: object) -> object:
        raise RuntimeError("out of luck")

    def step_that_fails() -> None:
        codec.push(codec.open(), some_codes(1))
        codec.step()

    for _ in range(2):
        with monkeypatch.context() as broken:
            broken.setattr(codec._decoder, "frame_step", fail)
            for _ in range(MOST_FAILED_STEPS - 1):
                step_that_fails()
        assert len(alone_on(codec, some_codes(9)))
    catching_up, _ = codec.open(), codec.open()  # in a lane of their own
    catching_up.start = StreamStart(first_decoded=1000, first_marked=1000)
    codec.push(catching_up, some_codes(2, 100))
    monkeypatch.setattr(codec._decoder, "frame_step", fail)
    for _ in range(MOST_FAILED_STEPS - 1):
        step_that_fails()
    with pytest.raises(CodecError, match="8 steps in a row have failed their streams"):
        step_that_fails()
    assert catching_up.pending and catching_up.num_frames >= MOST_FAILED_STEPS


@pytest.mark.parametrize("form", list(Form))
def test_a_row_that_is_not_finite_fails_alone_and_its_slot_recovers(
    mimi_folder: Path, silentcipher_folder: Path, form: Form
) -> None:
    codec = small_codec(mimi_folder, silentcipher_folder, form)
    expected = alone_on(codec, some_codes(9))
    streams = [codec.open(), codec.open()]
    for stream in streams:
        codec.push(stream, some_codes(9))
        codec.finish(stream)
    outputs = codec.step()
    half: Any = codec._decoder._half
    with torch.inference_mode():
        for keys, values in half._lanes[0][0].rings if form is Form.FRAMES else ():
            keys[:] = values[:] = np.nan
        for ring in half._lanes[0].state.rings if form is Form.BATCH else ():
            ring[0] = np.nan
        for state in half._lanes[0].modules.values() if form is Form.MODULES else ():
            if (cache := vars(state).get("kv_cache")) is not None:
                cache.cache[:, 0] = np.nan
    outputs += run_all(codec)
    failed = [output for output in outputs if isinstance(output, Failed)]
    assert [output.stream for output in failed] == [streams[0]]
    assert np.array_equal(pcm_of(outputs, streams[1]), expected)
    assert np.array_equal(alone_on(codec, some_codes(9)), expected)


def test_a_row_too_loud_for_a_mark_fails_alone(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = alone_on(codec, some_codes(9))
    streams = [codec.open(), codec.open()]
    for stream in streams:
        codec.push(stream, some_codes(9))
        codec.finish(stream)
    frame_step = codec._decoder.frame_step

    def shout(lane: int, *arguments: torch.Tensor) -> torch.Tensor:
        pcm: torch.Tensor = frame_step(lane, *arguments).clone()
        pcm[0] = 3e38
        return pcm

    monkeypatch.setattr(codec._decoder, "frame_step", shout)
    outputs = codec.step()
    monkeypatch.undo()
    outputs += run_all(codec)
    assert [output.stream for output in outputs if isinstance(output, Failed)] == [streams[0]]
    assert np.array_equal(pcm_of(outputs, streams[1]), expected)


def test_a_failed_watermark_gives_no_audio(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = codec.open()
    codec.push(stream, some_codes(0))
    codec.finish(stream)

    def fail(*arguments: object) -> None:
        raise CodecError("The watermark is not finite.")

    monkeypatch.setattr(codec._embedder, "push", fail)
    outputs = run_all(codec)
    assert [type(output) for output in outputs] == [Failed]
    assert isinstance(outputs[0], Failed) and "watermark" in str(outputs[0].error)


def test_a_lane_that_cannot_be_rebuilt_stops_the_codec(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    failed, delivered = threading.Event(), []
    thread = CodecThread(codec, deliver=lambda outputs, _: delivered.extend(outputs), fail=lambda _: failed.set())
    thread.start()
    stream = thread.open().result(timeout=60)

    def fail(*arguments: object) -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(codec._decoder, "frame_step", fail)
    monkeypatch.setattr(codec._decoder, "rebuild", fail)
    thread.push(stream, some_codes(0))
    assert failed.wait(timeout=60)
    with pytest.raises(CodecStoppedError):
        thread.open().result(timeout=60)
    thread.stop()


def test_the_thread_delivers_once_per_step_and_stops(codec: Codec) -> None:
    done, steps = threading.Event(), []

    def deliver(outputs: list[Output], seconds: float) -> None:
        steps.append(outputs)
        assert seconds > 0
        if any(isinstance(output, Complete) for output in outputs):
            done.set()

    thread = CodecThread(codec, deliver=deliver, fail=lambda error: done.set())
    thread.start()
    stream = thread.open().result(timeout=60)
    thread.push(stream, some_codes(0))
    thread.finish(stream)
    assert done.wait(timeout=60)
    thread.stop()
    assert len(steps) == 12
    thread.cancel(stream)
    with pytest.raises(CodecStoppedError):
        thread.open().result(timeout=60)


def test_a_stream_that_ended_in_a_step_that_then_fails_gets_its_end(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first stream's end is reported before the second one's fault fails their lane."""
    ending, failing = codec.open(), codec.open()
    codec.push(ending, some_codes(9, frames=1))
    codec.finish(ending)
    codec.push(failing, some_codes(9))
    outputs_of = codec._outputs_of

    def fail_second(stream: DecodeStream, *arguments: object) -> list[Output]:
        if stream is failing:
            raise RuntimeError("out of luck")
        return outputs_of(stream, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(codec, "_outputs_of", fail_second)
    outputs = codec.step()
    assert [(output.stream, type(output)) for output in outputs if not isinstance(output, Audio)] == [
        (ending, Complete),
        (failing, Failed),
    ]
    assert len(pcm_of(outputs, ending)) == 1920
    assert codec.num_streams == 0


def test_an_opening_that_fails_keeps_no_slot(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(codec._embedder, "join", fail)
    for _ in range(5):
        with pytest.raises(RuntimeError, match="no memory"):
            codec.open()
    monkeypatch.undo()
    assert len({codec.open().slot for _ in range(4)}) == 4
