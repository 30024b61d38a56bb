"""`csm detect`: the marked stretches of an audio file."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

from csm.v1 import watermark_pb2
from google.protobuf import duration_pb2

from csm_client.async_client import AsyncClient
from csm_client.audio_files import WavFile
from csm_client.command.shown import in_seconds, shown
from csm_client.errors import RecordingFileError
from csm_client.files import in_thread
from csm_client.tables.encodings import encoding_of_suffix

NOT_FOUND = 3  # exit code


async def detect(
    client: AsyncClient, path: Path, key_ids: Sequence[str], *, sample_rate_hz: int | None, as_json: bool
) -> int:
    """Prints what is found; returns the exit code. sample_rate_hz: of a file that holds samples alone, in mono.

    Raises OSError for a file that cannot be read, and RecordingFileError.
    """
    start = _wav_header(path, sample_rate_hz)
    with await in_thread(io.FileIO, path) as file:  # without a buffer, whose lock a read that hangs would keep
        found = await client.find_watermarks(cast(BinaryIO, _Joined(start, file)), key_ids)
    print(json.dumps(_values(found)) if as_json else "\n".join(map(shown, _lines(found))))
    return 0 if found.detected or found.stretches else NOT_FOUND


def _wav_header(path: Path, sample_rate_hz: int | None) -> bytes:
    """What makes a WAV file of one that holds samples alone, by its suffix; nothing for other files."""
    encoding = encoding_of_suffix(path.suffix)
    if encoding not in ("pcm", "mulaw", "alaw"):
        if sample_rate_hz is not None:
            raise RecordingFileError(f"{path} says its sample rate itself; --rate is for .raw, .pcm, .ulaw and .alaw.")
        return b""
    if sample_rate_hz is None:
        raise RecordingFileError(f"{path} holds samples alone; give their sample rate with --rate.")
    header = io.BytesIO()
    WavFile(path, sample_rate_hz, encoding, straight=header)  # writes nothing else, and lengths that are unknown
    return header.getvalue()


class _Joined:
    """A file with bytes before it, to be read once."""

    def __init__(self, start: bytes, file: io.FileIO) -> None:
        self._start, self._file = start, file

    def read(self, size: int) -> bytes:
        """Less than `size` only at the end."""
        content, self._start = self._start[:size], self._start[size:]
        while len(content) < size and (more := self._file.read(size - len(content))):
            content += more
        return content


def _lines(found: watermark_pb2.StreamDetectWatermarkResponse) -> list[str]:
    lines = [
        f"{_clock(stretch.start_offset)} to {_clock(stretch.end_offset)}  key {stretch.key_id}"
        f"  confidence {stretch.confidence:.2f}"
        for stretch in found.stretches
    ]
    if found.detected:
        lines.append(f"watermark of key {found.key_id} found (confidence {found.confidence:.2f})")
    elif not found.stretches:
        lines.append(f"no watermark found (confidence {found.confidence:.2f})")
    return lines


def _values(found: watermark_pb2.StreamDetectWatermarkResponse) -> dict[str, object]:
    return {
        "detected": found.detected,
        "confidence": round(found.confidence, 4),
        "key_id": found.key_id,
        "stretches": [
            {
                "start_s": round(in_seconds(stretch.start_offset), 3),
                "end_s": round(in_seconds(stretch.end_offset), 3),
                "key_id": stretch.key_id,
                "confidence": round(stretch.confidence, 4),
            }
            for stretch in found.stretches
        ],
    }


def _clock(offset: duration_pb2.Duration) -> str:
    """ "0:07.25", minutes and seconds"""
    minutes, seconds = divmod(round(in_seconds(offset), 2), 60)
    return f"{minutes:.0f}:{seconds:05.2f}"
