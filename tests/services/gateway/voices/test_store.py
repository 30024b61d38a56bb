"""The database of voices, with SQLite and with PostgreSQL."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from services.common.rpc.status import StatusError
from services.gateway.voices import store as store_module
from services.gateway.voices.database import VoicesDatabaseError
from services.gateway.voices.store import VoiceStore
from services.gateway.voices.voice import Audience, KeptVoice
from tests.support.clock import Clock

VOICE = KeptVoice(
    name="ada",
    uid="0" * 32,
    owner="shop",
    audience=Audience.OWNER,
    callers=(),
    speaker=1,
    language_codes=("en", "de"),
    description="Calm.",
    seed=2**63 - 1,
    consent_id="contract 17",
    consent_text="She agrees. Ü",
    prompt_text="What she says.",
    prompt_frames=2,
    prompt_level_db=-21.5,
    codec={"name": "mimi", "codebook_count": 32},
    model_version="fake/1",
    created_at=1_800_000_000,
)


async def _usable_by(store: VoiceStore, caller: str, after: str = "") -> list[str]:
    return [voice.name async for voice in store.usable_by(caller, after)]


async def test_voice_is_returned_as_it_was_added(store: VoiceStore) -> None:
    assert await store.get("ada") is None
    await store.add(VOICE, b"\x01\x00", 1)
    assert await store.get("ada") == VOICE
    assert await store.codes(VOICE.uid) == b"\x01\x00"
    assert await store.codes("other") is None


@pytest.mark.parametrize("name", ["a\0b", "", "x" * 100_000, "a/b", "\N{GRINNING FACE}"])
async def test_name_that_no_voice_has_is_not_found(store: VoiceStore, name: str) -> None:
    assert await store.get(name) is None
    assert not await store.delete(name, "shop")


async def test_voice_without_seed_and_prompt_is_returned_as_it_was_added(store: VoiceStore) -> None:
    bare = replace(VOICE, seed=None, prompt_level_db=None, codec={}, prompt_frames=0, audience=Audience.EVERYONE)
    await store.add(bare, b"", 1)
    assert await store.get("ada") == bare


async def test_name_is_kept_once_over_all_owners(store: VoiceStore) -> None:
    await store.add(VOICE, b"1", 5)
    with pytest.raises(StatusError) as failed:
        await store.add(replace(VOICE, uid="1" * 32, owner="other"), b"2", 5)
    assert (failed.value.code, failed.value.reason) == (grpc.StatusCode.ALREADY_EXISTS, "VOICE_EXISTS")
    assert await store.codes(VOICE.uid) == b"1"


async def test_limit_of_an_owner_holds_also_for_voices_added_at_once(
    store: VoiceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are added: they wait for each other, and none loses a race."""
    monkeypatch.setattr(store_module, "ATTEMPTS", 1)

    async def add(number: int) -> str:
        try:
            await store.add(replace(VOICE, name=f"voice-{number}", uid=f"{number:032}"), b"", 3)
        except StatusError as error:
            return error.reason
        return "OK"

    outcomes = await asyncio.gather(*(add(number) for number in range(20)))
    assert outcomes.count("OK") == await store.count("shop") == 3
    assert set(outcomes) == {"OK", "VOICE_LIMIT"}
    await store.add(replace(VOICE, owner="other"), b"", 3)
    assert [await store.count(owner) for owner in ("shop", "other", None)] == [3, 1, 4]


@pytest.mark.parametrize("cancelled", ["an added voice", "a taken name", "a deleted voice", "a list"])
async def test_write_is_answered_after_a_call_that_was_cancelled_at_any_statement(
    store: VoiceStore, cancelled: str, caplog: pytest.LogCaptureFixture
) -> None:
    calls: dict[str, Callable[[int], Coroutine[Any, Any, object]]] = {
        "an added voice": lambda number: store.add(replace(VOICE, name=f"b{number}", uid=f"{number:032}"), b"", 99),
        "a taken name": lambda number: store.add(replace(VOICE, uid=f"{number:032}"), b"", 99),
        "a deleted voice": lambda number: store.delete("ada", "shop"),
        "a list": lambda number: _usable_by(store, "shop"),
    }
    await store.add(VOICE, b"", 99)
    kept: list[object] = []  # a caller may keep the error, with its traceback
    for number in count(1):
        call = asyncio.create_task(calls[cancelled](number))
        with _cancelling(store, call, number) as statements:
            kept += await asyncio.gather(call, return_exceptions=True)
        if len(statements) < number:
            break
        assert isinstance(kept[-1], asyncio.CancelledError)
        await store.add(replace(VOICE, name=f"next-{number}", uid=f"f{number:031}", owner="other"), b"", 99)
    assert number > 1 and caplog.text == ""


async def test_a_cancelled_call_completes_in_the_database(store: VoiceStore, database: str) -> None:
    await store.count()
    call = asyncio.create_task(store.add(VOICE, b"", 1))
    with _cancelling(store, call, 1):
        await asyncio.gather(call, return_exceptions=True)
        await store.close()
    again = VoiceStore(database)
    assert await again.get("ada") == VOICE
    await again.close()


@contextmanager
def _cancelling(store: VoiceStore, call: asyncio.Task[Any], number: int) -> Iterator[list[object]]:
    """Cancels the call when its statement with that number begins: from 1, commits included. Yields the begun ones."""
    begun: list[object] = []

    def one_more(*statement: object) -> None:
        begun.append(statement)
        if len(begun) == number:
            call.cancel()

    events = ("before_cursor_execute", "commit")
    for event in events:
        sa.event.listen(store._engine.sync_engine, event, one_more)
    yield begun
    for event in events:
        sa.event.remove(store._engine.sync_engine, event, one_more)


async def test_only_the_owner_deletes(store: VoiceStore) -> None:
    await store.add(VOICE, b"", 1)
    assert not await store.delete("ada", "other")
    assert await store.delete("ada", "shop")
    assert not await store.delete("ada", "shop")
    assert (await store.get("ada"), await store.count()) == (None, 0)


async def test_callers_see_the_voices_that_they_may_use(store: VoiceStore) -> None:
    for name, owner, audience, callers in (
        ("all", "shop", Audience.EVERYONE, ()),
        ("some", "shop", Audience.CALLERS, ("radio",)),
        ("none", "shop", Audience.OWNER, ()),
    ):
        await store.add(
            replace(VOICE, name=name, uid=f"{name:>032}", owner=owner, audience=audience, callers=callers), b"", 9
        )
    for caller, wanted in (("shop", ["all", "none", "some"]), ("radio", ["all", "some"]), ("tv", ["all"])):
        assert await _usable_by(store, caller) == wanted


async def test_voices_of_other_callers_are_not_read(store: VoiceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of them would stop every stream of the gateway for a moment."""
    read, voice_of = list[str](), store_module._voice

    def reading(row: sa.Row[Any]) -> KeptVoice:
        read.append(row.name)
        return voice_of(row)

    monkeypatch.setattr(store_module, "_voice", reading)
    shared = replace(VOICE, audience=Audience.CALLERS)
    for name, callers in (("mine", ("tv", "a_b@c.d")), ("theirs", ("axb@c.d", "b@c.d")), ("others", ("radio",))):
        await store.add(replace(shared, name=name, uid=f"{name:>032}", callers=callers), b"", 9)
    await store.add(replace(VOICE, name="hidden", uid=f"{1:>032}"), b"", 9)
    assert await _usable_by(store, "a_b@c.d") == read == ["mine"]


async def test_a_list_reads_a_few_rows_at_a_time(store: VoiceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of them would stop every stream of the gateway for a moment."""
    monkeypatch.setattr(store_module, "ROWS_AT_ONCE", 3)
    names, sizes, read = ["0", "A", "B-2", "B.1", "_".join("ab"), "b"], list[int](), store._read
    for number, name in enumerate(names):
        await store.add(replace(VOICE, name=name, uid=f"{number:032}"), b"", 9)

    async def counting(query: sa.Select[Any]) -> list[sa.Row[Any]]:
        rows = await read(query)
        sizes.append(len(rows))
        return rows

    monkeypatch.setattr(store, "_read", counting)
    assert await _usable_by(store, "shop") == names and sizes == [3, 3, 0]
    sizes.clear()
    assert await _usable_by(store, "shop", "B.1") == names[4:] and sizes == [2]
    sizes.clear()
    async with aclosing(store.usable_by("shop")) as voices:
        assert (await anext(voices)).name == "0" and sizes == [3]


async def test_lost_server_is_unavailable_and_its_password_is_not_shown(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    store = VoiceStore(f"postgresql://csm:secret@/postgres?host={tmp_path}")
    with pytest.raises(StatusError) as failed:
        await store.get("ada")
    assert (failed.value.code, failed.value.reason) == (grpc.StatusCode.UNAVAILABLE, "VOICES_UNREACHABLE")
    assert "secret" not in caplog.text + failed.value.message
    await store.close()


async def test_calls_do_not_wait_for_each_other_while_the_server_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = VoiceStore(str(tmp_path / "voices.sqlite"))
    monkeypatch.setattr(store_module, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(store, "_migrate", asyncio.Event().wait)
    async with asyncio.timeout(2.5):  # a twentieth of a second for each, one after another, would be 5 s
        answers = await asyncio.gather(*(store.get("ada") for _ in range(100)), return_exceptions=True)
    assert {getattr(answer, "reason", answer) for answer in answers} == {"VOICES_UNREACHABLE"}
    await store.close()


async def test_close_does_not_wait_for_a_server_that_does_not_respond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """As with a frozen PostgreSQL, whose driver waits for ever for the connection to end."""
    store, leaving = VoiceStore(str(tmp_path / "voices.sqlite")), asyncio.Event()

    async def dispose() -> None:
        leaving.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(store, "_engine", SimpleNamespace(dispose=dispose))
    closing = asyncio.create_task(store.close())
    await leaving.wait()
    clock.put_forward(store_module.TIMEOUT_S)
    done, _ = await asyncio.wait({closing}, timeout=1)
    assert done


@pytest.mark.parametrize(
    "wrong",
    [
        *("mysql://host/name", "postgresql://host:port/name", "/proc/none/voices.sqlite", __file__, "~no-such-user/v"),
        *(f"postgresql://host/name?{wrong}" for wrong in ("sslmode=require", "ssl=1", "timeout=5", "nonsense=1")),
    ],
)
def test_wrong_setting_is_refused(wrong: str) -> None:
    with pytest.raises(VoicesDatabaseError, match="--voices-database"):
        VoiceStore(wrong)


async def test_nothing_of_a_deleted_voice_is_left_in_the_files(tmp_path: Path) -> None:
    """Even while this store and another gateway's have the database open."""
    store, other = VoiceStore(str(tmp_path / "voices.sqlite")), VoiceStore(str(tmp_path / "voices.sqlite"))
    words, codes = "She agrees to be heard.", b"codes of her voice" * 1000

    def left() -> bool:
        content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        return words.encode() in content or codes[:18] in content

    await store.add(replace(VOICE, consent_text=words), codes, 1)
    assert await other.get("ada") is not None and left()
    assert await store.delete("ada", "shop")
    assert not left()
    await store.close()
    await other.close()


async def test_voice_is_deleted_though_the_log_cannot_be_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(engine: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(store_module, "empty_log", late)
    store = VoiceStore(str(tmp_path / "voices.sqlite"))
    await store.add(VOICE, b"", 1)
    assert await store.delete("ada", "shop") and await store.get("ada") is None
    await store.close()


async def test_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "voices.sqlite"
    store = VoiceStore(str(path))
    await store.add(VOICE, b"", 1)
    await store.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
