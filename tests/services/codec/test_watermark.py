"""The watermark in decoded audio: how faint, how complete, with which key; and its detection."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from csm.codec.v1 import codec_pb2

from csm_codec.mimi.loader import load_mimi
from csm_codec.resample import Pcm
from csm_codec.watermark.detect.detector import Detection
from csm_codec.watermark.detect.evidence import most_keys
from csm_codec.watermark.detect.scanner import Scan, Scanner
from csm_codec.watermark.keys.payload import PERIOD
from services.codec.recordings import detection
from services.codec.settings import CodecSettings
from services.codec.stage import CodecStage
from services.common.rpc.status import from_rpc_error
from tests.support.codec_stage import (
    F32,
    FRAMES,
    config_message,
    decode,
    random_codes,
    recording_messages,
    refusal,
    running_codec,
    stream_of,
)
from tests.support.waits import eventually


async def test_audio_is_the_decoded_clip_with_a_faint_mark(stub: Any, bundle: Path) -> None:
    samples, complete = await decode(stub, stream_of(random_codes(), [1, 4, 100]))
    pcm = np.frombuffer(samples, "<f4")
    with torch.inference_mode():
        clean = load_mimi(bundle / "mimi").model.decode(torch.from_numpy(random_codes()).T[None])[0, 0].numpy()
    assert (complete.frame_count, complete.sample_count) == (FRAMES, FRAMES * 1920)
    mark = np.std(pcm - clean) / np.std(clean)
    assert 0.001 < mark < 0.01  # 47 dB
    assert complete.watermark.coverage == codec_pb2.WATERMARK_COVERAGE_FULL
    assert complete.watermark.key_id == "new"
    assert complete.watermark.scheme == "silentcipher-24000hz-40bit"
    assert complete.decode_duration.nanos > 0 and complete.watermark_duration.nanos > 0


@pytest.mark.parametrize(("in_bundle", "in_settings", "wanted_db"), [(36, None, 36), (36, 30, 30), (None, 40, 40)])
async def test_the_setting_overrides_the_bundle_s_strength_of_the_mark(
    bundle: Path, settings: CodecSettings, tmp_path: Path, in_bundle: float, in_settings: float, wanted_db: float
) -> None:
    """In this order, and last that of hparams.yaml, 47 dB."""
    folder = tmp_path / "bundle"
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    if in_bundle is not None:
        manifest["message_sdr_db"] = in_bundle
    (folder / "bundle.json").write_text(json.dumps(manifest))
    async with running_codec(settings, bundle=str(folder), watermark_sdr_db=in_settings) as (_, stub):
        samples, _ = await decode(stub, stream_of(random_codes(), [FRAMES]))
    with torch.inference_mode():
        clean = load_mimi(bundle / "mimi").model.decode(torch.from_numpy(random_codes()).T[None])[0, 0].numpy()
    measured_db = -20 * np.log10(np.std(np.frombuffer(samples, "<f4") - clean) / np.std(clean))
    assert wanted_db - 1.5 < measured_db < wanted_db + 5  # the mark is limited to what the audio can hide


async def test_short_audio_is_whole_and_partly_marked(stub: Any) -> None:
    _, complete = await decode(stub, stream_of(random_codes(1), [1]))
    assert complete.sample_count == 1920
    assert complete.watermark.coverage == codec_pb2.WATERMARK_COVERAGE_PARTIAL


async def test_a_partial_mark_is_an_error_where_a_full_one_is_required(
    settings: CodecSettings, loads: list[tuple[int, int]]
) -> None:
    """A clip that ends before its first audio delivers none; a longer one has delivered some by then.

    It is no fault of this codec, which others should avoid then.
    """
    async with running_codec(settings, require_full_watermark=True) as (stage, stub):
        call = stub.StreamDecode(iter(stream_of(random_codes(2), [2])))
        messages = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for message in call:
                messages.append(message)
        status = from_rpc_error(caught.value)
        assert (status.code, status.reason) == (grpc.StatusCode.INTERNAL, "WATERMARK_FAILED")
        assert "too short or too quiet" in status.message
        assert all(message.WhichOneof("event") == "audio" for message in messages[1:])
        _, complete = await decode(stub, stream_of(random_codes(), [FRAMES]))
        assert complete.watermark.coverage == codec_pb2.WATERMARK_COVERAGE_FULL
        await eventually(lambda: stage.async_codec.num_streams == 0)
    assert loads == [(1, 2)], "only that of the stream that completed"


async def test_another_key_leaves_another_mark(stub: Any) -> None:
    active, _ = await decode(stub, stream_of(random_codes(), [FRAMES]))
    old, complete = await decode(stub, stream_of(random_codes(), [FRAMES], watermark_key_id="old"))
    assert complete.watermark.key_id == "old" and old != active
    status = await refusal(decode(stub, [config_message(watermark_key_id="lost")]))
    assert (status.code, status.reason) == (grpc.StatusCode.NOT_FOUND, "WATERMARK_KEY_NOT_FOUND")


async def test_untrained_networks_detect_nothing(stub: Any) -> None:
    samples, _ = await decode(stub, stream_of(random_codes(), [FRAMES]))
    request = codec_pb2.DetectWatermarkRequest(samples=samples, sample_format=F32, sample_rate_hertz=24000)
    found = await stub.DetectWatermark(request)
    assert not found.detected and found.key_id == "" and 0 <= found.confidence < 0.9
    request.key_ids.append("nobody")
    assert (await refusal(stub.DetectWatermark(request))).code is grpc.StatusCode.NOT_FOUND


async def test_a_key_named_more_than_once_is_looked_for_once(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[list[str]] = []

    def scan(silentcipher: Any, keys: Any, pcm: Any, rate_hz: int) -> Generator[None, None, Scan]:
        searched.append(sorted(key.id for key in keys))
        yield
        return Scan(Detection(False, 0.0, ""), ())

    monkeypatch.setattr(detection, "scan_in_pieces", scan)
    for key_ids in (["new"] * 1000, ["", "new"], ["old", "", "old"], []):
        await stub.DetectWatermark(
            codec_pb2.DetectWatermarkRequest(
                samples=bytes(4), sample_format=F32, sample_rate_hertz=24000, key_ids=key_ids
            )
        )
    assert searched == [["new"], ["new"], ["new", "old"], ["new", "old"]]


def detect_messages(samples: bytes, size: int, **config: Any) -> list[Any]:
    return recording_messages("StreamDetectWatermark", samples, size, **config)


async def answers(stub: Any, messages: list[Any]) -> list[Any]:
    return [answer async for answer in stub.StreamDetectWatermark(iter(messages))]


async def test_a_recording_in_pieces_is_searched_as_in_one(stub: Any) -> None:
    """Pieces may cut samples. Untrained networks detect nothing, but with the same confidence."""
    samples, _ = await decode(stub, stream_of(random_codes(), [FRAMES]))
    whole = await stub.DetectWatermark(
        codec_pb2.DetectWatermarkRequest(samples=samples, sample_format=F32, sample_rate_hertz=24000)
    )
    for size in (4001, 100_000):  # each search takes a second or two
        started, answer = await answers(stub, detect_messages(samples, size))
        assert started.WhichOneof("event") == "started" and answer.complete == whole


async def test_a_large_message_is_searched_in_pieces_of_a_second(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other recordings are encoded between them."""
    sizes, push_in_pieces = list[int](), Scanner.push_in_pieces

    def counted(scanner: Scanner, pcm: Pcm) -> Generator[None, None, None]:
        sizes.append(len(pcm))
        return push_in_pieces(scanner, pcm)

    monkeypatch.setattr(Scanner, "push_in_pieces", counted)
    samples = bytes(4 * 20_000)
    await answers(stub, detect_messages(samples, len(samples), sample_rate_hertz=8000))
    assert sizes == [8000, 8000, 4000]


@pytest.mark.parametrize("method", ["DetectWatermark", "StreamDetectWatermark"])
async def test_a_recording_that_comes_during_the_end_of_a_search_is_encoded_before_the_search_is_over(
    stage: CodecStage, stub: Any, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The end's first piece waits until the recording is in the queue, and its second one until the codes have come."""
    worker: Any = stage._recordings._worker
    begun, queued, encoded = threading.Event(), threading.Event(), threading.Event()
    finish_in_pieces = Scanner.finish_in_pieces

    def held(scanner: Scanner) -> Generator[None, None, Scan]:
        begun.set()
        assert queued.wait(20)
        yield
        assert encoded.wait(20)
        return (yield from finish_in_pieces(scanner))

    monkeypatch.setattr(Scanner, "finish_in_pieces", held)
    whole = codec_pb2.DetectWatermarkRequest(samples=bytes(400), sample_format=F32, sample_rate_hertz=24000)
    if method == "DetectWatermark":
        search: asyncio.Future[Any] = asyncio.ensure_future(stub.DetectWatermark(whole))
    else:
        search = asyncio.create_task(answers(stub, detect_messages(bytes(400), 400)))
    await asyncio.to_thread(begun.wait, 20)
    recording = codec_pb2.EncodeRequest(samples=bytes(400), sample_format=F32, sample_rate_hertz=24000)
    encoding = asyncio.ensure_future(stub.Encode(recording))
    await eventually(lambda: len(worker._commands) == 1)
    queued.set()
    assert (await encoding).codes.frame_count == 1
    encoded.set()
    assert await search


async def test_whole_recordings_are_searched_one_at_a_time(
    stage: CodecStage, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In turns, all would end as late as the last."""
    steps, both_wait = list[str](), threading.Event()

    def scan(silentcipher: Any, keys: Any, pcm: Any, rate_hz: int) -> Generator[None, None, Scan]:
        assert both_wait.wait(20)
        for step in ("begin", "end"):
            steps.append(f"{step} {len(pcm)}")
            yield
        return Scan(Detection(False, 0.0, ""), ())

    monkeypatch.setattr(detection, "scan_in_pieces", scan)
    requests = [
        codec_pb2.DetectWatermarkRequest(samples=bytes(4 * size), sample_format=F32, sample_rate_hertz=24000)
        for size in (1, 2)
    ]
    searches = [asyncio.ensure_future(stub.DetectWatermark(request)) for request in requests]
    await eventually(lambda: stage._recordings._accepted == 2)
    both_wait.set()
    await asyncio.gather(*searches)
    assert sorted(steps[:2]) == ["begin 1", "end 1"] or sorted(steps[:2]) == ["begin 2", "end 2"]


async def test_a_search_for_an_unknown_key_is_refused(stub: Any) -> None:
    status = await refusal(answers(stub, detect_messages(bytes(4), 4, key_ids=["nobody"])))
    assert status.reason == "WATERMARK_KEY_NOT_FOUND"


async def test_only_a_caller_that_names_too_many_keys_is_refused(settings: CodecSettings, tmp_path: Path) -> None:
    """For an operator with more keys, a call without keys still searches all: its caller could not name fewer."""
    most = most_keys(PERIOD * 256 / 24000)
    keys = {f"key-{number}": f"{number:010x}" for number in range(1, most + 2)}
    (tmp_path / "many.json").write_text(json.dumps({"format": 1, "active": "key-1", "keys": keys}))
    async with running_codec(settings, watermark_keyring=tmp_path / "many.json") as (_, stub):
        status = await refusal(answers(stub, detect_messages(bytes(400), 400, key_ids=list(keys))))
        assert [violation.field for violation in status.field_violations] == ["key_ids"]
        assert f"at most {most}" in status.message
        for key_ids in (list(keys)[:most], []):
            _, answer = await answers(stub, detect_messages(bytes(400), 400, key_ids=key_ids))
            assert answer.WhichOneof("event") == "complete"


async def test_searches_beyond_the_slots_wait_and_beyond_the_queue_are_refused(settings: CodecSettings) -> None:
    async with running_codec(settings, max_detections=1, max_waiting=1) as (_, stub):
        good = detect_messages(bytes(400), 400)
        first = stub.StreamDetectWatermark()
        await first.write(good[0])
        assert (await first.read()).WhichOneof("event") == "started"

        async def opened(call: Any) -> str:
            await call.write(good[0])
            return str((await call.read()).WhichOneof("event"))

        others = {asyncio.ensure_future(opened(stub.StreamDetectWatermark())) for _ in range(3)}
        refused: set[asyncio.Future[str]] = set()
        while len(refused) < 2:  # those that come after the waiting one
            done, others = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
            refused |= done
        for task in refused:
            error = task.exception()
            assert isinstance(error, grpc.aio.AioRpcError)
            assert from_rpc_error(error).code is grpc.StatusCode.UNAVAILABLE
        (waits,) = others
        assert not waits.done()
        first.cancel()
        assert await waits == "started"
