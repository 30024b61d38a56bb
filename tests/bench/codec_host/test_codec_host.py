"""The codec over a device that does nothing: its streams are whole, no network is run, and a short run is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from csm.codec.v1 import codec_pb2, codec_pb2_grpc

from bench.codec_host import __main__ as codec_host
from bench.codec_host.caller import Caller
from bench.codec_host.idle_device import Parts
from bench.codec_host.sampled import sampled
from bench.codec_host.steps import KEY, samples_after
from csm_codec.mimi.batch.network import BatchNetwork
from csm_codec.stream import Audio, Complete
from csm_codec.watermark.keys.keyring import Keyring
from csm_codec.watermark.networks.embedding import EmbedNetwork
from tests.support.tiny.bundle import write_tiny_bundle

FRAMES = 12


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    write_tiny_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def parts(bundle: Path) -> Parts:
    return Parts.of_bundle(bundle)


def test_streams_are_whole_and_no_network_is_run(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    for network in (BatchNetwork, EmbedNetwork):
        monkeypatch.setattr(network, "step", None)
    monkeypatch.setattr(EmbedNetwork, "without_future", None)
    codec = parts.codec(2, Keyring(KEY, {KEY.id: KEY}))
    streams = [codec.open(), codec.open()]
    for stream in streams:
        codec.push(stream, np.zeros((FRAMES, 32), np.int64))
        codec.finish(stream)
    samples, ended = dict.fromkeys(streams, 0), []
    while codec.has_work:
        for output in codec.step():
            if isinstance(output, Audio):
                samples[output.stream] += len(output.pcm)
                assert np.isfinite(output.pcm).all()
            else:
                assert isinstance(output, Complete)
                ended.append(output.stream)
    assert ended == streams and set(samples.values()) == {FRAMES * 1920}


def test_the_samples_that_a_caller_waits_for_are_those_of_any_stream(parts: Parts) -> None:
    counts = samples_after(parts, FRAMES)
    assert len(counts) == FRAMES + 1 and counts[0] == 0 < counts[1]
    assert counts == sorted(counts) and counts[-1] < FRAMES * 1920
    assert counts[:5] == samples_after(parts, 4)


def test_a_sample_counts_for_the_package_that_it_was_taken_in() -> None:
    with sampled("tests.bench.codec_host") as counts:
        while not counts:
            sorted(range(1000))
    assert set(counts) == {__name__}


class ShortCodec:
    """A call that answers every frame with too few samples, and then ends."""

    def StreamDecode(self, timeout: float) -> ShortCodec:
        self._answers = [
            codec_pb2.StreamDecodeResponse(started=codec_pb2.StreamDecodeStarted()),
            codec_pb2.StreamDecodeResponse(audio=codec_pb2.AudioSamples(sample_count=100)),
            codec_pb2.StreamDecodeResponse(complete=codec_pb2.StreamDecodeComplete()),
        ]
        return self

    async def write(self, request: codec_pb2.StreamDecodeRequest) -> None: ...

    async def done_writing(self) -> None: ...

    async def read(self) -> codec_pb2.StreamDecodeResponse:
        return self._answers.pop(0)


async def test_a_stream_that_lacks_samples_is_an_error() -> None:
    stub = cast(codec_pb2_grpc.CodecServiceStub, ShortCodec())
    caller = await Caller.open(stub, samples_after=[0, 100])
    await caller.frames(1)
    with pytest.raises(RuntimeError, match="1 frames had 100 samples"):
        await caller.close()


@pytest.mark.slow  # three processes that load torch
@pytest.mark.timeout(600)
def test_steps_and_servers_are_measured(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert codec_host.main(["--streams", "8", "--turns", "1", "--bundle", str(bundle)]) == 0
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert row["streams"] == 8 and 0 < row["step_ms"] < row["stage_ms"] and row["bare_ms"] > 0
    assert row["streams_a_core"] <= row["without_grpc"]
    assert row["shares"] and sum(row["shares"].values()) <= 1.01
