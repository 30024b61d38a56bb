"""Files of a conversation: its turns and the codes of earlier answers. It knows no channel.

A file may be a FIFO, or lie in a file system that hangs; `in_thread` keeps an event loop from waiting for it.

A conversation is a JSON list, oldest turn first, paths relative to the file:

    [{"speaker": 0, "text": "How are you?", "audio": "a.wav"}, {"speaker": 1, "text": "Fine.", "codes": "b.codes"}]
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from csm.rvq.v1 import rvq_pb2
from google.protobuf.message import DecodeError

from csm_client.errors import ContextFileError
from csm_client.requests import Codes, Turn

SEALED = b"CSMS"  # sealed codes begin with it; open codes never do
LARGEST_SPEAKER = 2**31 - 1  # of the field

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


async def in_thread(work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
    """What `work` returns. It runs in a thread of its own, which a program that ends does not wait for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(set_outcome: Callable[[Any], None], outcome: Any) -> None:
        if not done.done():  # else it is no longer awaited
            set_outcome(outcome)

    def post(set_outcome: Callable[[Any], None], outcome: Any) -> None:
        with suppress(RuntimeError):  # the event loop has ended
            loop.call_soon_threadsafe(settle, set_outcome, outcome)

    def run() -> None:
        try:
            result = work(*arguments)
        except BaseException as error:
            post(done.set_exception, error)
        else:
            post(done.set_result, result)

    threading.Thread(target=run, daemon=True).start()
    return await done


def save_codes(path: Path, codes: Codes) -> None:
    """Writes sealed codes as they are, open ones as a serialized csm.rvq.v1.CodeFrames."""
    path.write_bytes(codes if isinstance(codes, bytes) else codes.SerializeToString())


def load_context(path: Path) -> list[Turn]:
    """The turns of a conversation file. Raises ContextFileError."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin UTF-8 with a mark
    except (OSError, ValueError) as error:
        raise ContextFileError(f"{path} cannot be read: {error}") from None
    except RecursionError:
        raise ContextFileError(f"{path} cannot be read: its lists and objects are nested too deeply.") from None
    if not isinstance(entries, list):
        raise ContextFileError(f"{path} must hold a list of turns.")
    return [_load_turn(path, number, entry) for number, entry in enumerate(entries, start=1)]


def _load_turn(path: Path, number: int, entry: object) -> Turn:
    where = f"{path}, turn {number}"
    if not isinstance(entry, Mapping):
        raise ContextFileError(f"{where} must be an object with speaker and text.")
    if unknown := set(entry) - {"speaker", "text", "audio", "codes"}:
        raise ContextFileError(f"{where} has unknown keys: {', '.join(sorted(unknown))}.")
    speaker, text = entry.get("speaker"), entry.get("text")
    if not isinstance(speaker, int) or isinstance(speaker, bool) or not isinstance(text, str):
        raise ContextFileError(f"{where} needs 'speaker', a whole number, and 'text', a string.")
    if not -LARGEST_SPEAKER <= speaker <= LARGEST_SPEAKER or not is_unicode(text):
        raise ContextFileError(f"{where}: 'speaker' must fit 32 bits, and 'text' must be valid Unicode.")
    if "audio" in entry and "codes" in entry:
        raise ContextFileError(f"{where} has both 'audio' and 'codes'; one of them is enough.")
    wav = _load(where, path, entry["audio"]) if "audio" in entry else None
    codes = _parse_codes(where, _load(where, path, entry["codes"])) if "codes" in entry else None
    return Turn(speaker, text, wav, codes)


def _load(where: str, path: Path, name: object) -> bytes:
    if not isinstance(name, str):
        raise ContextFileError(f"{where} must name its file with a string.")
    try:
        return path.parent.joinpath(name).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in its name
        raise ContextFileError(f"{where}: {error}") from None


def is_unicode(text: str) -> bool:
    """Whether the text is valid UTF-8. JSON may hold half a surrogate pair, and a command line may hold any bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parse_codes(where: str, content: bytes) -> Codes:
    if content.startswith(SEALED):
        return content
    try:
        return rvq_pb2.CodeFrames.FromString(content)
    except DecodeError:
        raise ContextFileError(f"{where}: its codes file was not written by this client.") from None
