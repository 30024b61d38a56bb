"""How long a step takes while streams that were continued catch up: a thread that does not go round counts as hung."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from csm_codec import codec as module
from csm_codec.codec import Codec
from csm_codec.stream import Audio, StreamStart
from csm_codec.watermark.stream.marked_stream import AT_THE_START

LATENT_S = 0.05  # of one row; what the published Mimi took on a core


class SlowDecoder:
    """Two lanes of four rows, by a clock of its own."""

    num_lanes, lane_width = 2, 4
    identity = SimpleNamespace(codebook_count=4, sample_rate_hertz=24_000)

    def __init__(self) -> None:
        self.now_s = 0.0

    def latent_step(self, lane: int, codes: torch.Tensor, exec_mask: torch.Tensor) -> None:
        assert exec_mask.any(), "a step for no stream costs as much"
        self.now_s += LATENT_S * int(exec_mask.sum())


def test_a_step_stays_short_while_many_streams_catch_up(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = SlowDecoder()
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: decoder.now_s))
    embedder = SimpleNamespace(n_fft=512, join=lambda *arguments: SimpleNamespace(place=AT_THE_START))
    keyring = SimpleNamespace(get=lambda key_id: SimpleNamespace(id="key", payload=b"abcde"))
    codec = Codec(cast(Any, decoder), cast(Any, embedder), cast(Any, keyring))
    streams = [codec.open() for _ in range(8)]
    for stream in streams:
        stream.start = StreamStart(first_decoded=100, first_marked=100)
        codec.push(stream, np.zeros((100, 4), np.int64))
    codec.step()
    assert decoder.now_s <= 1.0, "2.5 s without a turn are a hang"
    assert all(stream.num_frames >= 1 for stream in streams)
    alone = streams[0]
    for stream in streams[1:]:
        codec.cancel(stream)
    before = alone.num_frames
    (output,) = codec.step()
    assert isinstance(output, Audio) and output.num_new_frames == alone.num_frames - before > 4
    while codec.has_work:
        codec.step()
    assert alone.num_frames == 100
    assert sum(stream.decode_s for stream in streams) == pytest.approx(decoder.now_s)
