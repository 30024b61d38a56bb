"""Streams of another speed in the codec, and what becomes of a slot and its neighbours when the filter fails."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from csm_bundle.errors import CodecError
from csm_codec import codec as codec_module
from csm_codec.codec import Codec
from csm_codec.stream import Complete, DecodeOptions, Failed
from csm_codec.stretch import Stretcher
from tests.csm_codec.codec_steps import alone_on, pcm_of, run_all, some_codes


@pytest.mark.parametrize("speed", [0.5, 1.5, 4.0])
def test_stretched_stream_is_the_same_at_any_pushes_and_its_slot_is_free_of_it(codec: Codec, speed: float) -> None:
    plain = alone_on(codec, some_codes(0))
    made = []
    for sizes in ([12], [1, 3, 8], [5, 7]):
        began_s = time.perf_counter()
        stream, outputs, start = codec.open(DecodeOptions(speed=speed)), [], 0
        for size in sizes:
            codec.push(stream, some_codes(0)[start : start + size])
            outputs += run_all(codec)
            start += size
        codec.finish(stream)
        outputs += run_all(codec)
        assert isinstance(outputs[-1], Complete)
        assert stream.decode_s + stream.watermark_s < time.perf_counter() - began_s
        made.append(pcm_of(outputs, stream))
    assert len(made[0]) == math.ceil(12 * 1920 / speed)
    assert np.array_equal(made[0], made[1]) and np.array_equal(made[0], made[2])
    assert np.array_equal(alone_on(codec, some_codes(0)), plain)


def test_a_stream_whose_filter_cannot_be_made_takes_no_slot(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise ImportError("no PyAV")

    monkeypatch.setattr(codec_module, "Stretcher", fail)
    for _ in range(5):
        with pytest.raises(ImportError):
            codec.open(DecodeOptions(speed=2.0))
    assert len({codec.open().slot for _ in range(4)}) == 4


def test_a_filter_that_fails_ends_its_stream_and_no_other(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = alone_on(codec, some_codes(9))
    stretched, neighbour = codec.open(DecodeOptions(speed=2.0)), codec.open()
    assert stretched.slot.lane == neighbour.slot.lane
    for stream in (stretched, neighbour):
        codec.push(stream, some_codes(9))
        codec.finish(stream)
    outputs = codec.step()

    def fail(*arguments: object, **named: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(Stretcher, "push", fail)
    outputs += run_all(codec)
    failed = [output for output in outputs if isinstance(output, Failed)]
    assert [output.stream for output in failed] == [stretched]
    assert type(failed[0].error) is CodecError and "out of luck" not in str(failed[0].error)
    assert np.array_equal(pcm_of(outputs, neighbour), expected)
    assert np.array_equal(alone_on(codec, some_codes(9)), expected)
