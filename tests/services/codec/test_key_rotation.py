"""Keys that are replaced while the codec runs: new clips, clips that go on, searches, and invalid files."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from csm.codec.v1 import codec_pb2

from services.codec.settings import CodecSettings
from services.codec.stage import CodecStage
from services.common import followed_files
from tests.support.codec_stage import (
    config_message,
    decode,
    frames_message,
    random_codes,
    refusal,
    running_codec,
    stream_of,
)
from tests.support.network.hanging_file import hanging
from tests.support.waits import read_event

OLD, NEW, NEWER = "0102030405", "fe01fe01fe", "1122334455"


def write_keys(path: Path, active: str, **keys: str) -> None:
    """Replaces the file as Kubernetes does: by the new target of a symbolic link."""
    draft = path.with_name("draft.json")
    draft.write_text(json.dumps({"format": 1, "active": active, "keys": keys}))
    os.replace(draft, path)


def reloads(stage: CodecStage, outcome: str) -> float | None:
    labels = {"setting": "watermark_keyring", "outcome": outcome}
    return stage.server.metrics.registry.get_sample_value("stage_file_reloads_total", labels)


async def active_of(stub: Any) -> str:
    return str((await stub.GetCodecInfo(codec_pb2.GetCodecInfoRequest())).active_key_id)


async def key_of(stub: Any, **config: Any) -> tuple[str, bytes]:
    """Decodes a stream. Returns the key of its mark, and the state of its clip."""
    _, complete = await decode(stub, stream_of(random_codes(3), [3], **config))
    return complete.watermark.key_id, complete.resume


async def test_a_new_active_key_marks_new_clips_only(
    look_at_files: Callable[[], None], stage: CodecStage, stub: Any, settings: CodecSettings
) -> None:
    codes = random_codes(4)
    call = stub.StreamDecode()
    await call.write(config_message(watermark_key_id="new"))
    assert (await read_event(call)).WhichOneof("event") == "started"
    _, state = await key_of(stub, watermark_key_id="new")
    expected, _ = await decode(stub, stream_of(codes, [4], watermark_key_id="new"))

    write_keys(settings.watermark_keyring, "newer", newer=NEWER)
    look_at_files()
    assert await active_of(stub) == "newer"
    assert (await key_of(stub))[0] == "newer"
    assert (await key_of(stub, resume=state, watermark_key_id="new"))[0] == "new", "a clip that goes on"
    await call.write(frames_message(codes))
    await call.done_writing()
    answers = []
    while (answer := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs forget it
        answers.append(answer)
    assert answers[-1].complete.watermark.key_id == "new"
    assert b"".join(answer.audio.samples for answer in answers) == expected, "a stream that was open"
    assert reloads(stage, "used") == 1 and reloads(stage, "refused") == 0


async def test_only_the_keys_of_the_file_are_looked_for(
    look_at_files: Callable[[], None], stub: Any, settings: CodecSettings
) -> None:
    request = codec_pb2.DetectWatermarkRequest(
        samples=bytes(4000), sample_format=codec_pb2.SAMPLE_FORMAT_S16LE, sample_rate_hertz=24_000, key_ids=["old"]
    )
    await stub.DetectWatermark(request)
    write_keys(settings.watermark_keyring, "newer", newer=NEWER, new=NEW)
    look_at_files()
    assert (await refusal(stub.DetectWatermark(request))).reason == "WATERMARK_KEY_NOT_FOUND"
    info = await stub.GetCodecInfo(codec_pb2.GetCodecInfoRequest())
    assert list(info.key_ids) == ["newer", "new"]


async def test_a_wrong_or_missing_file_leaves_the_keys_as_they_were(
    look_at_files: Callable[[], None],
    stage: CodecStage,
    stub: Any,
    settings: CodecSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = settings.watermark_keyring
    public = {"k": bytes((212, 211, 146, 56, 201)).hex()}
    wrong = [
        "no json",
        json.dumps({"format": 1, "active": "k", "keys": public}),
        json.dumps({"format": 1, "active": "gone", "keys": {"new": NEW}}),
        None,
    ]
    for number, content in enumerate(wrong, 1):
        caplog.clear()
        if content is None:
            path.unlink()
        else:
            path.write_text(content)
        look_at_files()
        assert await active_of(stub) == "new"
        look_at_files()
        errors = [record.getMessage() for record in caplog.records if record.name == "csm.files"]
        assert len(errors) == 1 and "what was read before stays in use" in errors[0] and str(path) in errors[0]
        assert OLD not in errors[0] and NEW not in errors[0]
        assert reloads(stage, "refused") == number
    assert not path.exists(), "a missing file is not made again with another key"
    assert (await key_of(stub))[0] == "new"
    assert (await refusal(decode(stub, [config_message(watermark_key_id="nobody")]))).code is grpc.StatusCode.NOT_FOUND
    write_keys(path, "newer", newer=NEWER)
    look_at_files()
    assert await active_of(stub) == "newer"
    assert reloads(stage, "used") == 1


async def test_a_keyring_that_does_not_answer_stops_no_stream(
    settings: CodecSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream begins in the thread that decodes all of them."""
    monkeypatch.setattr(followed_files, "LOOK_S", 0.05)
    monkeypatch.setattr(followed_files, "MOST_LOOK_S", 0.5)
    async with running_codec(settings) as (stage, stub):
        running = stub.StreamDecode()
        await running.write(config_message())
        assert (await read_event(running)).WhichOneof("event") == "started"
        with hanging(settings.watermark_keyring):
            while reloads(stage, "refused") != 1:
                assert (await key_of(stub))[0] == "new"
                assert await active_of(stub) == "new"
            await running.write(frames_message(random_codes(3)))
            await running.done_writing()
            answers = []
            while answer := await read_event(running):
                answers.append(answer.WhichOneof("event"))
            assert answers[-1] == "complete"
        write_keys(settings.watermark_keyring, "newer", newer=NEWER)
        async with asyncio.timeout(60):
            while await active_of(stub) != "newer":
                await asyncio.sleep(0.01)
