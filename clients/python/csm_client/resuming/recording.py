"""The messages of a recording that is sent in pieces, for one call after the other until a server gets them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, BinaryIO

from csm.v1 import watermark_pb2

from csm_client.files import in_thread
from csm_client.requests import file_format

PIECE_BYTES = 64 * 1024  # of a recording that is sent in pieces
KEPT_MESSAGES = 4  # of such a recording; gRPC takes one before it has a server


class DetectMessages:
    """The messages of a recording of any length, for one call after the other until a server gets them.

    error: the exception of reading it, which gRPC would lose
    """

    def __init__(self, file: BinaryIO, key_ids: Sequence[str]) -> None:
        """file: WAV, Ogg Opus, MP3, AAC or FLAC, read from its current position"""
        self.error: Exception | None = None
        self._messages = _detect_messages(file, key_ids)
        self._num_taken = 0
        self._first = list[watermark_pb2.StreamDetectWatermarkRequest]()  # at most KEPT_MESSAGES
        self._taking = threading.Lock()  # the thread of an earlier call may still be reading

    @property
    def can_begin_again(self) -> bool:
        """Whether the next call gets all messages, although an earlier one may still take one more."""
        return self._num_taken < KEPT_MESSAGES

    def __iter__(self) -> Iterator[watermark_pb2.StreamDetectWatermarkRequest]:
        """For a new call, from the first message."""
        number = 0
        while (message := self._message(number)) is not None:
            yield message
            number += 1

    async def __aiter__(self) -> AsyncIterator[watermark_pb2.StreamDetectWatermarkRequest]:
        """The same on an event loop, which runs on while the file is read."""
        number = 0
        while (message := await in_thread(self._message, number)) is not None:
            yield message
            number += 1

    def _message(self, number: int) -> watermark_pb2.StreamDetectWatermarkRequest | None:
        with self._taking:
            if number < len(self._first):
                return self._first[number]
            if self.error is not None:
                raise self.error
            try:
                message = next(self._messages, None)
            except Exception as error:
                self.error = error
                raise
            self._num_taken += 1
            if message is not None and self._num_taken <= KEPT_MESSAGES:
                self._first.append(message)
            return message


def to_send(request: Any) -> Any:
    """What a stub takes for the next call."""
    return iter(request) if isinstance(request, DetectMessages) else request


def to_send_async(request: Any) -> Any:
    """The same for a stub on an event loop."""
    return aiter(request) if isinstance(request, DetectMessages) else request


def can_send_again(request: Any) -> bool:
    return not isinstance(request, DetectMessages) or request.can_begin_again


def _detect_messages(file: BinaryIO, key_ids: Sequence[str]) -> Iterator[watermark_pb2.StreamDetectWatermarkRequest]:
    piece = file.read(PIECE_BYTES)
    config = watermark_pb2.StreamDetectWatermarkConfig(audio_format=file_format(piece), key_ids=key_ids)
    yield watermark_pb2.StreamDetectWatermarkRequest(config=config)
    while piece:
        yield watermark_pb2.StreamDetectWatermarkRequest(audio_content=piece)
        piece = file.read(PIECE_BYTES)
