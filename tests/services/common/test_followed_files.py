"""Files that change: what is loaded was in the file at one time."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from services.common import followed_files
from services.common.followed_files import AGAIN_S, ATTEMPTS, MOST_LOOK_S, FollowedFiles
from services.gateway.settings import GatewaySettings
from services.gateway.stage import start_gateway
from tests.support.clock import Clock
from tests.support.network.hanging_file import hanging
from tests.support.waits import eventually

T = TypeVar("T")


def looked(followed: FollowedFiles[T]) -> T:
    followed.look()
    return followed.current


def pair_of(folder: Path) -> list[Path]:
    return [folder / "a", folder / "b"]


def write(folder: Path, text: str) -> None:
    for path in pair_of(folder):
        path.write_text(text)


def test_a_change_between_the_reads_of_two_files_gives_no_mixture(tmp_path: Path) -> None:
    write(tmp_path, "old")
    changes = iter(["newer"])

    def load() -> tuple[str, str]:
        first = (tmp_path / "a").read_text()
        for text in changes:  # once
            write(tmp_path, text)
        return first, (tmp_path / "b").read_text()

    assert FollowedFiles(pair_of(tmp_path), load).current == ("newer", "newer")


def test_failure_caused_by_a_change_is_tried_again(tmp_path: Path) -> None:
    write(tmp_path, "old")
    tries: list[int] = []

    def load() -> str:
        tries.append(1)
        if len(tries) == 1:
            write(tmp_path, "newer")
            raise OSError("they do not belong together")
        return (tmp_path / "a").read_text()

    assert FollowedFiles(pair_of(tmp_path), load).current == "newer"


@pytest.mark.parametrize(
    ("text", "name", "later_ns"), [("other", "new", 0), ("of another size", "a", 0), ("other", "a", 1)]
)
def test_file_that_differs_in_one_respect_is_read(tmp_path: Path, text: str, name: str, later_ns: int) -> None:
    """Those from an archive, a checkout or a mounted Secret may have the time of the one that they replace."""
    file, new = tmp_path / "a", tmp_path / name
    file.write_text("first")
    followed = FollowedFiles([file], file.read_text)
    time_ns = file.stat().st_mtime_ns + later_ns
    new.write_text(text)
    os.utime(new, ns=(time_ns, time_ns))
    new.replace(file)
    assert looked(followed) == text


def test_files_that_do_not_stop_changing_are_an_error(tmp_path: Path) -> None:
    sizes: list[int] = []

    def load() -> None:
        sizes.append(1)
        write(tmp_path, "x" * len(sizes))

    with pytest.raises(OSError, match="written while being read"):
        FollowedFiles(pair_of(tmp_path), load)
    assert len(sizes) == ATTEMPTS


def test_files_that_do_not_stop_changing_later_on_stay_as_they_were_read(tmp_path: Path) -> None:
    write(tmp_path, "x")
    counted, sizes = list[bool](), list[int]()

    def load() -> int:
        if len((tmp_path / "a").read_text()) > 1:
            sizes.append(1)
            write(tmp_path, "xx" + "x" * len(sizes))
        return len(sizes)

    followed = FollowedFiles(pair_of(tmp_path), load, KeyError, counted.append)
    write(tmp_path, "xx")
    assert looked(followed) == 0 and counted == [False] and len(sizes) == ATTEMPTS


def test_the_last_valid_content_stays_and_each_change_counts_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "1")
    counted: list[bool] = []

    class WrongError(Exception):
        pass

    def load() -> int:
        try:
            return int((tmp_path / "a").read_text())
        except (ValueError, OSError) as error:
            raise WrongError(f"{tmp_path}: {error}") from None

    followed = FollowedFiles(pair_of(tmp_path), load, WrongError, counted.append)
    assert looked(followed) == 1 and counted == []
    write(tmp_path, "22")
    assert [looked(followed), looked(followed)] == [22, 22]
    write(tmp_path, "bad")
    assert [looked(followed), looked(followed)] == [22, 22]
    (tmp_path / "a").unlink()
    assert [looked(followed), looked(followed)] == [22, 22]
    assert counted == [True, False, False]
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 2 and all(str(tmp_path) in error for error in errors)
    write(tmp_path, "4444")
    assert looked(followed) == 4444
    write(tmp_path, "bad")
    with pytest.raises(WrongError):
        FollowedFiles(pair_of(tmp_path), load, WrongError)


def test_files_of_a_folder_come_and_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, counted = tmp_path / "folder", list[bool]()
    folder.mkdir()

    def names() -> Iterable[str]:
        return [path.name for path in folder.iterdir()]

    followed = FollowedFiles(lambda: sorted(folder.iterdir()), names, on_reload=counted.append)
    assert looked(followed) == [] and looked(followed) is looked(followed)
    write(folder, "1")
    assert sorted(looked(followed)) == ["a", "b"]
    (folder / "a").rename(folder / "c")
    assert sorted(looked(followed)) == ["b", "c"]
    folder.rename(tmp_path / "elsewhere")
    assert [sorted(looked(followed)) for _ in range(2)] == 2 * [["b", "c"]]
    assert counted == [True, True, False]
    assert caplog.text.count("what was read before stays in use") == 1
    folder.mkdir()
    assert looked(followed) == [], "a folder that is back and empty"


def test_files_that_could_not_be_read_are_used_once_they_can_though_they_have_not_changed(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """As those of which only the permissions were wrong, or that came while too many files were open."""
    write(tmp_path, "old")
    counted, refuses = list[bool](), False

    def load() -> str:
        if refuses:
            raise PermissionError(errno.EACCES, "Permission denied")
        return (tmp_path / "a").read_text()

    followed = FollowedFiles(pair_of(tmp_path), load, on_reload=counted.append)
    write(tmp_path, "newer")
    refuses = True
    for _ in range(3):
        assert looked(followed) == "old"
        clock.put_forward(AGAIN_S)
    refuses = False
    assert looked(followed) == "newer"
    assert counted == [False, True] and caplog.text.count("stays in use") == 1


def test_a_change_that_its_reader_cannot_take_is_refused_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of the reader failed one call, and was then forgotten: no metric and no line told of the old content."""
    write(tmp_path, "1")
    counted = list[bool]()
    followed = FollowedFiles(
        pair_of(tmp_path), lambda: 1 // int((tmp_path / "a").read_text()), on_reload=counted.append
    )
    write(tmp_path, "00")
    assert [looked(followed) for _ in range(2)] == [1, 1] and counted == [False]
    assert "stays in use: integer division or modulo by zero" in caplog.text and "Traceback" in caplog.text


async def test_a_change_is_noticed_without_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed_files, "LOOK_S", 0.01)
    write(tmp_path, "old")
    followed = FollowedFiles(pair_of(tmp_path), (tmp_path / "a").read_text)
    for text in ("newer", "newest"):
        write(tmp_path, text)
        await eventually(lambda text=text: followed.current == text)  # type: ignore[misc]


async def test_a_panic_of_the_reader_ends_no_later_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicError(BaseException):
        """As a Rust library raises it."""

    def load() -> str:
        if (text := (tmp_path / "a").read_text()) == "bad":
            raise PanicError
        return text

    monkeypatch.setattr(followed_files, "LOOK_S", 0.01)
    write(tmp_path, "old")
    counted = list[bool]()
    followed = FollowedFiles(pair_of(tmp_path), load, on_reload=counted.append)
    write(tmp_path, "bad")
    await eventually(lambda: counted == [False])
    write(tmp_path, "newer")
    await eventually(lambda: followed.current == "newer")


async def test_the_thread_ends_with_the_last_user_of_the_files(tmp_path: Path) -> None:
    write(tmp_path, "old")
    before = set(threading.enumerate())
    followed = FollowedFiles(pair_of(tmp_path), (tmp_path / "a").read_text)
    (follower,) = set(threading.enumerate()) - before
    del followed
    await eventually(lambda: not follower.is_alive())


@pytest.mark.parametrize("in_the_call", ["stat", "read"])
def test_files_that_do_not_answer_hold_up_no_caller(
    in_the_call: str, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """As those in a file system of the network. What was read before stays in use until they answer."""
    caplog.set_level(logging.INFO)
    write(tmp_path, "old")
    counted, answers, hangs = list[bool](), threading.Event(), threading.Event()
    answers.set()

    def hang(call: str) -> None:
        if call == in_the_call and not answers.is_set():
            hangs.set()
            assert answers.wait(30), "nobody went on without the answer"

    def paths() -> list[Path]:
        hang("stat")
        return pair_of(tmp_path)

    def load() -> str:
        hang("read")
        return (tmp_path / "a").read_text()

    followed = FollowedFiles(paths, load, on_reload=counted.append)
    answers.clear()
    write(tmp_path, "newer")
    with looking(followed, hangs, answers):
        clock.put_forward(MOST_LOOK_S / 2)
        assert followed.current == "old" and counted == []
        clock.put_forward(MOST_LOOK_S)
        assert [followed.current for _ in range(3)] == 3 * ["old"] and counted == [False]
        assert f"stays in use: {tmp_path / 'a'}, {tmp_path / 'b'}: no answer within {MOST_LOOK_S:g} s" in caplog.text
    assert followed.current == "newer" and counted == [False, True] and "answer again" in caplog.text


def test_files_that_answer_again_as_they_were_are_used_again_and_wrong_ones_are_not(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write(tmp_path, "1")
    counted = list[bool]()
    followed = FollowedFiles(pair_of(tmp_path), lambda: int((tmp_path / "a").read_text()), ValueError, counted.append)
    first, stamps = followed.current, followed._stamps
    for text, then in (("1", [False, True]), ("bad", [False, False]), ("bad", [False])):
        counted.clear()
        caplog.clear()
        answers, hangs = threading.Event(), threading.Event()

        def hanging_stamps(answers: threading.Event = answers, hangs: threading.Event = hangs) -> object:
            hangs.set()
            assert answers.wait(30)
            return stamps()

        monkeypatch.setattr(followed, "_stamps", hanging_stamps)
        if (tmp_path / "a").read_text() != text:
            write(tmp_path, text)
        with looking(followed, hangs, answers):
            clock.put_forward(MOST_LOOK_S + 0.1)
            assert followed.current is first
        assert counted == then and ("answer again" in caplog.text) == (text == "1")
    clock.put_forward(MOST_LOOK_S + 0.1)
    assert followed.current is first and counted == [False], "a look that has ended is not late"


@contextmanager
def looking(followed: FollowedFiles[Any], hangs: threading.Event, answers: threading.Event) -> Iterator[None]:
    """While the block runs, a look hangs; at its end the files answer."""
    look = threading.Thread(target=followed.look)
    look.start()
    assert hangs.wait(30)
    try:
        yield
    finally:
        answers.set()
        look.join()


@pytest.mark.parametrize("in_the_call", ["prepare", "stat", "read"])
def test_a_start_ends_when_its_files_do_not_answer(
    in_the_call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited without end in the event loop, where SIGTERM did not end it."""
    write(tmp_path, "old")
    answers = threading.Event()

    def hang(call: str) -> None:
        if call == in_the_call:
            assert answers.wait(30), "nobody went on without the answer"

    def paths() -> list[Path]:
        hang("stat")
        return pair_of(tmp_path)

    monkeypatch.setattr(followed_files, "START_S", 0.1)
    named = f"{tmp_path / 'a'}, {tmp_path / 'b'}" if in_the_call == "read" else "files"
    with pytest.raises(TimeoutError, match=f"^{named}: no answer within 0.1 s"):
        FollowedFiles(paths, lambda: hang("read"), prepare=lambda: hang("prepare"))
    answers.set()


async def test_a_gateway_whose_tokens_do_not_answer_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tokens := tmp_path / "tokens.json").write_text("[]")
    monkeypatch.setattr(followed_files, "START_S", 0.1)
    with hanging(tokens), pytest.raises(OSError, match="tokens.json: no answer within 0.1 s"):
        await start_gateway(GatewaySettings(auth_tokens_file=tokens, engine_target="e:1", codec_target="c:1"))
