"""When the operator's folder is read."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from csm_bundle.voice_folder import voice_files
from services.gateway.voices import folder as folder_module
from services.gateway.voices.folder import LOOK_AGAIN_S, MOST_LOOK_S, VoiceFolder
from tests.services.gateway.voices.test_files import write_voice
from tests.support.clock import Clock
from tests.support.waits import eventually


async def test_a_changed_folder_is_read_although_all_threads_decode_recordings(tmp_path: Path, clock: Clock) -> None:
    write_voice(tmp_path, "carol")
    folder, read = VoiceFolder(tmp_path), threading.Event()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    decoding = asyncio.get_running_loop().run_in_executor(None, read.wait, 20)
    write_voice(tmp_path, "erin")
    clock.put_forward(2 * LOOK_AGAIN_S)
    assert sorted(await folder.voices()) == ["carol", "erin"]
    read.set()
    assert await decoding, "the folder was read after the recording"


async def test_a_folder_that_does_not_answer_holds_up_no_call_for_long(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was read before stays in use, and the change is, once the folder answers."""
    write_voice(tmp_path, "carol")
    counted = list[bool]()
    folder = VoiceFolder(tmp_path, counted.append)
    begun, answers = threading.Event(), threading.Event()

    def hang(path: Path) -> list[Path]:
        begun.set()
        answers.wait(60)
        return voice_files(path)

    monkeypatch.setattr(folder_module, "voice_files", hang)
    write_voice(tmp_path, "erin")
    clock.put_forward(2 * LOOK_AGAIN_S)
    first = asyncio.create_task(folder.voices())
    await eventually(begun.is_set)
    clock.put_forward(2 * LOOK_AGAIN_S)
    async with asyncio.timeout(20):
        assert list(await folder.voices()) == ["carol"] and counted == []
        clock.put_forward(MOST_LOOK_S)
        assert list(await first) == ["carol"]
        assert counted == [False] and f"{tmp_path}" in caplog.text and "no answer within 2 s" in caplog.text
        answers.set()
        while sorted(await folder.voices()) != ["carol", "erin"]:
            await asyncio.sleep(0.01)
    assert counted == [False, True]
