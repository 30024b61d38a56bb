"""csm.codec.v1 as its callers meet it: a real server, real networks, small ones."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch
from csm.codec.v1 import codec_pb2, codec_pb2_grpc
from csm.rvq.v1 import rvq_pb2

from csm_engine.codec.mimi import load_mimi
from csm_engine.codec.resample import resample
from csm_engine.errors import BundleError, KeyringError
from services.codec.settings import CodecSettings
from services.codec.stage import CodecStage, start_codec
from services.common.status import StatusError, from_rpc_error

F32, S16 = codec_pb2.SAMPLE_FORMAT_F32LE, codec_pb2.SAMPLE_FORMAT_S16LE
FRAMES = 30


def _codes(frames: int = FRAMES, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 64, (frames, 4))


def _frames(codes: np.ndarray, first: int = 0) -> codec_pb2.StreamDecodeRequest:
    return codec_pb2.StreamDecodeRequest(
        frames=rvq_pb2.CodeFrames(
            first_frame_index=first,
            frame_count=codes.shape[0],
            codebook_count=codes.shape[1],
            codes=codes.astype("<u2").tobytes(),
        )
    )


def _config(**fields: Any) -> codec_pb2.StreamDecodeRequest:
    return codec_pb2.StreamDecodeRequest(config=codec_pb2.StreamDecodeConfig(**{"sample_format": F32, **fields}))


def _stream(codes: np.ndarray, sizes: list[int], **config: Any) -> list[codec_pb2.StreamDecodeRequest]:
    """Config, then the codes in messages of those sizes; the last size goes on to the end."""
    requests, start = [_config(**config)], 0
    while start < len(codes):
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        requests.append(_frames(codes[start : start + size], start))
        start += size
    return requests


async def _decode(stub: Any, requests: list[codec_pb2.StreamDecodeRequest]) -> tuple[bytes, Any]:
    """The samples and the closing message; checks that there is no gap."""
    samples, complete, position = b"", None, 0
    async for response in stub.StreamDecode(iter(requests)):
        assert complete is None
        if response.WhichOneof("event") == "complete":
            complete = response.complete
            continue
        assert response.audio.sample_offset == position
        position += response.audio.sample_count
        samples += response.audio.samples
    assert complete is not None and complete.sample_count == position
    return samples, complete


async def _status(call: Awaitable[Any]) -> StatusError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def _eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_audio_is_the_decoded_clip_with_a_faint_mark(stub: Any, bundle: Path) -> None:
    samples, complete = await _decode(stub, _stream(_codes(), [1, 4, 100]))
    pcm = np.frombuffer(samples, "<f4")
    with torch.inference_mode():
        clean = load_mimi(bundle / "mimi").model.decode(torch.from_numpy(_codes()).T[None])[0, 0].numpy()
    assert (complete.frame_count, complete.sample_count) == (FRAMES, FRAMES * 1920)
    mark = np.std(pcm - clean) / np.std(clean)
    assert 0.001 < mark < 0.01  # 47 dB
    assert complete.watermark.coverage == codec_pb2.WATERMARK_COVERAGE_FULL
    assert complete.watermark.key_id == "new"
    assert complete.watermark.scheme == "silentcipher-24000hz-40bit"
    assert complete.decode_duration.nanos > 0 and complete.watermark_duration.nanos > 0


async def test_messages_may_be_cut_anywhere_and_streams_may_run_beside(stub: Any) -> None:
    alone, _ = await _decode(stub, _stream(_codes(), [FRAMES]))
    beside = await asyncio.gather(
        _decode(stub, _stream(_codes(), [3])), _decode(stub, _stream(_codes(seed=1), [7, 1, 2]))
    )
    assert beside[0][0] == alone
    assert beside[1][0] != alone


async def test_first_audio_comes_with_the_first_frame_unless_the_future_is_waited_for(
    stub: Any, settings: CodecSettings
) -> None:
    call = stub.StreamDecode()
    await call.write(_config())
    await call.write(_frames(_codes(1), 0))
    first = await call.read()
    assert 1920 - first.audio.sample_count <= 2 * 256  # two hops
    call.cancel()

    stage = await start_codec(settings.model_copy(update={"watermark_first_look_ahead": 6}))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.port}") as channel:
        call = codec_pb2_grpc.CodecServiceStub(channel).StreamDecode()
        await call.write(_config())
        for index in range(2):
            await call.write(_frames(_codes(1), index))
        first = await call.read()
        assert 2 * 1920 - first.audio.sample_count > 6 * 256
        call.cancel()
    await stage.stop()


async def test_first_audio_comes_before_the_last_frame_is_sent(stub: Any) -> None:
    call = stub.StreamDecode()
    await call.write(_config())
    for index in range(10):
        await call.write(_frames(_codes(1), index))
    first = await call.read()
    assert first.audio.sample_count > 0
    await call.done_writing()
    last = first
    while (response := await call.read()) is not grpc.aio.EOF:
        last = response
    assert last.complete.sample_count == 10 * 1920


async def test_more_frames_than_fit_ahead_all_come_out(stub: Any) -> None:
    _, complete = await _decode(stub, _stream(_codes(200), [200]))
    assert complete.sample_count == 200 * 1920


async def test_16_bit_samples_are_the_float_ones_rounded(stub: Any) -> None:
    floats, _ = await _decode(stub, _stream(_codes(), [8]))
    words, _ = await _decode(stub, _stream(_codes(), [8], sample_format=S16))
    expected = np.rint(np.frombuffer(floats, "<f4") * 32768).clip(-32768, 32767)
    assert np.array_equal(np.frombuffer(words, "<i2"), expected)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 48000])
async def test_other_rates_are_resampled_without_a_seam(stub: Any, rate_hz: int) -> None:
    native, _ = await _decode(stub, _stream(_codes(), [FRAMES]))
    other, _ = await _decode(stub, _stream(_codes(), [5], sample_rate_hertz=rate_hz))
    assert np.array_equal(np.frombuffer(other, "<f4"), resample(np.frombuffer(native, "<f4"), 24000, rate_hz))


async def test_short_audio_is_whole_and_partly_marked(stub: Any) -> None:
    _, complete = await _decode(stub, _stream(_codes(1), [1]))
    assert complete.sample_count == 1920
    assert complete.watermark.coverage == codec_pb2.WATERMARK_COVERAGE_PARTIAL


async def test_a_partial_mark_is_an_error_where_a_full_one_is_required(settings: CodecSettings) -> None:
    """A clip that is over before its first audio delivers none; a longer one has delivered audio by then."""
    stage = await start_codec(settings.model_copy(update={"require_full_watermark": True}))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.port}") as channel:
        stub = codec_pb2_grpc.CodecServiceStub(channel)
        call = stub.StreamDecode(iter(_stream(_codes(2), [2])))
        messages = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for message in call:
                messages.append(message)
        status = from_rpc_error(caught.value)
        assert (status.code, status.reason) == (grpc.StatusCode.INTERNAL, "WATERMARK_FAILED")
        assert "too short or too quiet" in status.message
        assert all(message.WhichOneof("event") == "audio" for message in messages)
        _, complete = await _decode(stub, _stream(_codes(), [FRAMES]))
        assert complete.watermark.coverage == codec_pb2.WATERMARK_COVERAGE_FULL
        await _eventually(lambda: stage.bridge.thread.num_streams == 0)
    await stage.stop()


async def test_a_stream_without_frames_completes_empty(stub: Any) -> None:
    samples, complete = await _decode(stub, [_config()])
    assert samples == b"" and complete.frame_count == 0


async def test_another_key_leaves_another_mark(stub: Any) -> None:
    active, _ = await _decode(stub, _stream(_codes(), [FRAMES]))
    old, complete = await _decode(stub, _stream(_codes(), [FRAMES], watermark_key_id="old"))
    assert complete.watermark.key_id == "old" and old != active
    status = await _status(_decode(stub, [_config(watermark_key_id="lost")]))
    assert (status.code, status.reason) == (grpc.StatusCode.NOT_FOUND, "WATERMARK_KEY_NOT_FOUND")


@pytest.mark.parametrize(
    ("requests", "field"),
    [
        ([], "config"),
        ([_frames(_codes(1))], "config"),
        ([_config(sample_format=0)], "sample_format"),
        ([_config(sample_rate_hertz=4000)], "config.sample_rate_hertz"),
        ([_config(), _config()], "request"),
        ([_config(), _frames(_codes(2), 1)], "frames"),
        ([_config(), _frames(_codes(2)), _frames(_codes(2), 1)], "frames"),
        ([_config(), _frames(_codes(2)[:, :3])], "frames"),
        ([_config(), _frames(np.full((1, 4), 64))], "frames.codes"),
        ([_config(), codec_pb2.StreamDecodeRequest(frames={"frame_count": 1, "codebook_count": 4})], "frames"),
        ([_config(), codec_pb2.StreamDecodeRequest(frames={"codebook_count": 4})], "frames"),
    ],
)
async def test_wrong_requests_name_the_field_and_free_the_slot(
    stub: Any, stage: CodecStage, requests: list[codec_pb2.StreamDecodeRequest], field: str
) -> None:
    status = await _status(_decode(stub, requests))
    assert status.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in status.field_violations] == [field]
    await _eventually(lambda: stage.bridge.thread.num_streams == 0)


async def test_codes_of_another_codec_are_refused_naming_both(stub: Any) -> None:
    info = await stub.GetCodecInfo(codec_pb2.GetCodecInfoRequest())
    await _decode(stub, _stream(_codes(1), [1], codec=info.codec))
    theirs = rvq_pb2.CodecIdentity(name="mimi", weights_digest="sha256:feedbeef", codebook_count=4)
    status = await _status(_decode(stub, [_config(codec=theirs)]))
    assert (status.code, status.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CODEC_MISMATCH")
    assert "feedbeef" in status.message and info.codec.weights_digest[:19] in status.message


async def test_a_full_stage_lets_streams_wait_then_refuses_and_a_cancel_lets_the_next_in(
    stub: Any, stage: CodecStage
) -> None:
    calls = [stub.StreamDecode(), stub.StreamDecode()]
    for call in calls:
        await call.write(_config())
    await _eventually(lambda: stage.bridge.thread.num_streams == 2)
    waiting = asyncio.ensure_future(_decode(stub, _stream(_codes(1), [1])))
    await _eventually(lambda: stage.bridge.seats.num_waiting == 1)
    status = await _status(_decode(stub, _stream(_codes(1), [1])))
    assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "QUEUE_FULL")
    assert status.retry_delay_s is not None
    calls[0].cancel()
    samples, _ = await asyncio.wait_for(waiting, 10)  # its turn has come
    assert samples
    calls[1].cancel()
    await _eventually(lambda: stage.bridge.thread.num_streams == 0)
    await _decode(stub, _stream(_codes(1), [1]))


async def test_more_streams_than_slots_are_all_served_in_turn(stub: Any, stage: CodecStage) -> None:
    alone, _ = await _decode(stub, _stream(_codes(3), [3]))
    streams = [asyncio.ensure_future(_decode(stub, _stream(_codes(3), [3]))) for _ in range(3)]
    for samples, _ in await asyncio.gather(*streams):
        assert samples == alone


async def test_a_cancelled_wait_leaves_the_queue(stub: Any, stage: CodecStage) -> None:
    calls = [stub.StreamDecode() for _ in range(3)]
    for call in calls:
        await call.write(_config())
    await _eventually(lambda: stage.bridge.seats.num_waiting == 1)
    for call in calls:
        call.cancel()
    await _eventually(lambda: (stage.bridge.seats.num_waiting, stage.bridge.thread.num_streams) == (0, 0))
    assert len(await asyncio.gather(*(_decode(stub, _stream(_codes(1), [1])) for _ in range(3)))) == 3


async def test_deadline_frees_the_slot(stub: Any, stage: CodecStage) -> None:
    async def open_ended() -> AsyncIterator[codec_pb2.StreamDecodeRequest]:
        yield _config()
        await asyncio.sleep(60)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stub.StreamDecode(open_ended(), timeout=0.3):
            pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await _eventually(lambda: stage.bridge.thread.num_streams == 0)


async def test_encoding_gives_the_models_codes(stub: Any, bundle: Path) -> None:
    pcm = (0.1 * np.random.default_rng(0).standard_normal(24000)).astype("<f4")
    answer = await stub.Encode(
        codec_pb2.EncodeRequest(samples=pcm.tobytes(), sample_format=F32, sample_rate_hertz=24000)
    )
    with torch.inference_mode():
        expected = load_mimi(bundle / "mimi").model.encode(torch.from_numpy(pcm.copy())[None, None])[0].T
    codes = np.frombuffer(answer.codes.codes, "<u2").reshape(answer.codes.frame_count, 4)
    assert np.array_equal(codes, expected)
    assert answer.codec.weights_digest


async def test_encoding_beside_decoding_changes_neither(stub: Any) -> None:
    alone, _ = await _decode(stub, _stream(_codes(), [4]))
    samples = np.random.default_rng(0).integers(-9000, 9000, 48000).astype("<i2").tobytes()
    request = codec_pb2.EncodeRequest(samples=samples, sample_format=S16, sample_rate_hertz=16000)
    first = await stub.Encode(request)
    decoded, *encoded = await asyncio.gather(
        _decode(stub, _stream(_codes(), [4])), *(stub.Encode(request) for _ in range(4))
    )
    assert decoded[0] == alone
    assert all(answer.codes == first.codes for answer in encoded)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"samples": b""}, "samples"),
        ({"samples": b"123"}, "samples"),
        ({"samples": bytes(12), "sample_format": 0}, "sample_format"),
        ({"samples": bytes(12), "sample_rate_hertz": 7}, "sample_rate_hertz"),
        ({"samples": bytes(4 * 24000 * 6)}, "samples"),
        ({"samples": np.full(9, np.inf, "<f4").tobytes()}, "samples"),
    ],
)
async def test_wrong_recordings_name_the_field(stub: Any, fields: dict[str, Any], field: str) -> None:
    fields = {"sample_format": F32, "sample_rate_hertz": 24000, **fields}
    for call in (
        stub.Encode(codec_pb2.EncodeRequest(**fields)),
        stub.DetectWatermark(codec_pb2.DetectWatermarkRequest(**fields)),
    ):
        status = await _status(call)
        assert status.code is grpc.StatusCode.INVALID_ARGUMENT
        assert [violation.field for violation in status.field_violations] == [field]


async def test_untrained_networks_detect_nothing(stub: Any) -> None:
    samples, _ = await _decode(stub, _stream(_codes(), [FRAMES]))
    request = codec_pb2.DetectWatermarkRequest(samples=samples, sample_format=F32, sample_rate_hertz=24000)
    found = await stub.DetectWatermark(request)
    assert not found.detected and found.key_id == "" and 0 <= found.confidence < 0.9
    request.key_ids.append("nobody")
    assert (await _status(stub.DetectWatermark(request))).code is grpc.StatusCode.NOT_FOUND


async def test_info_tells_everything_but_the_keys(stub: Any) -> None:
    info = await stub.GetCodecInfo(codec_pb2.GetCodecInfoRequest())
    assert (info.codec.name, info.codec.codebook_count, info.codec.sample_rate_hertz) == ("mimi", 4, 24000)
    assert (info.active_key_id, list(info.key_ids)) == ("new", ["old", "new"])
    assert info.latency_sample_count == 8 * 256 and info.notice == "untrained"
    assert bytes.fromhex("fe01fe01fe") not in info.SerializeToString()


async def test_metrics_count_what_happened(settings: CodecSettings) -> None:
    stage = await start_codec(settings.model_copy(update={"metrics_port": 0}))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.server.port}") as channel:
        await _decode(codec_pb2_grpc.CodecServiceStub(channel), _stream(_codes(), [FRAMES]))
    url = f"http://127.0.0.1:{stage.server.metrics_port}/metrics"
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
    await stage.stop()
    assert f"codec_frames_total {FRAMES}.0" in text
    assert 'codec_watermarked_streams_total{coverage="full"} 1.0' in text
    assert "codec_active_streams 0.0" in text
    assert "codec_tick_seconds_count" in text and "codec_watermark_seconds_total" in text


async def test_a_stage_that_stops_tells_its_streams(stub: Any, stage: CodecStage) -> None:
    call = stub.StreamDecode()
    await call.write(_config())
    await _eventually(lambda: stage.bridge.thread.num_streams == 1)
    reading = asyncio.ensure_future(call.read())
    await stage.bridge.stop()
    status = await _status(reading)
    assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


async def test_a_bundle_that_lies_about_its_codec_is_refused(
    settings: CodecSettings, bundle: Path, tmp_path: Path
) -> None:
    lying = tmp_path / "lying"
    lying.mkdir()
    manifest = json.loads((bundle / "bundle.json").read_text())
    for part in manifest["parts"]:
        (lying / part).symlink_to(bundle / part)
    manifest["codec"]["weights_digest"] = "sha256:0"
    (lying / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="weights_digest is sha256:0; its weights have sha256:"):
        await start_codec(settings.model_copy(update={"bundle": str(lying)}))


async def test_the_public_key_stops_the_start(settings: CodecSettings) -> None:
    keyring = {"format": 1, "active": "k", "keys": {"k": bytes((212, 211, 146, 56, 201)).hex()}}
    settings.watermark_keyring.write_text(json.dumps(keyring))
    with pytest.raises(KeyringError, match="published"):
        await start_codec(settings)
    stage = await start_codec(settings.model_copy(update={"allow_public_watermark_key": True}))
    await stage.stop()
