"""A SQLite file that is removed or replaced while the gateway runs, as when an operator restores a backup."""

from __future__ import annotations

import dataclasses
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from services.common.rpc.status import StatusError
from services.gateway.voices.store import VoiceStore
from tests.services.gateway.voices.test_store import VOICE


async def test_voice_is_not_written_into_a_file_that_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "voices 100% #1.sqlite"
    store = VoiceStore(str(file))
    bo = dataclasses.replace(VOICE, name="bo", uid="1" * 32)
    await store.add(VOICE, b"codes", 20)
    copy = tmp_path / "copy"
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    for part in tmp_path.glob("voices*"):
        part.unlink()
    with pytest.raises(StatusError) as refused:
        await store.add(bo, b"codes", 20)
    assert refused.value.reason == "VOICES_UNREACHABLE" and "unable to open database file" in caplog.text
    assert not file.exists()
    copy.rename(file)
    assert (await store.get("ada")) is not None and await store.get("bo") is None
    await store.add(bo, b"codes", 20)
    await store.close()
    again = VoiceStore(str(file))
    assert await again.count() == 2
    await again.close()
