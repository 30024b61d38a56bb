"""When the operator's folder is read."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.gateway.voices.folder import LOOK_AGAIN_S, VoiceFolder
from tests.services.gateway.voices.test_files import write_voice
from tests.support.clock import Clock


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
