"""Decides whether a lost stream is requested again.

The same request with the same seed gives the same samples, and so does a text with the same pieces. With checkpoints,
what the first server has generated is not generated again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import grpc

from csm_client.credentials import CallMetadata
from csm_client.errors import ServerError, deadline_passed
from csm_client.requests import LARGE_BYTES, size_metadata
from csm_client.resuming.reader import SpeechReader
from csm_client.text_writer import MOST_KEPT_BYTES, TextWriter

DEFAULT_RESUMES = 3
RECENT_S = 60.0  # a loss counts this long, and until new audio comes: a request may be what ends its servers
FIRST_DELAY_S, MOST_DELAY_S = 0.1, 2.0  # before a call is opened again, doubled each time
UNREACHED_DELAY_S = 1.0  # before a call that found no server is opened again

# The message of grpc.aio for a write after the end of the call. It hides the status.
_CUT_OFF_WRITE = "Internal error from Core"
_LOST = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
_OVER_QUOTA = "QUOTA_EXCEEDED"
_NEVER_REACHED = ("last error: ", "errors resolving ")  # in gRPC's messages when no server was reached


@dataclass(frozen=True, slots=True)
class NextCall:
    """The next call after a loss."""

    request: Any
    timeout_s: float
    delay_s: float  # before it is opened


def call_options(request: Any, metadata: CallMetadata, timeout_s: float) -> dict[str, Any]:
    """The options of a stub's call. metadata: without that of the request's size"""
    return {"timeout": timeout_s, "metadata": metadata + size_metadata(request)}


def is_unreached(error: ServerError) -> bool:
    """Whether no server was there for the call."""
    is_of_grpc = error.code is grpc.StatusCode.UNAVAILABLE and error.reason == error.code.name
    return is_of_grpc and any(words in str(error) for words in _NEVER_REACHED)


def unhidden(error: ServerError, until_s: float) -> ServerError:
    """`error`, or the deadline of `until_s` if a write after it hides that it has passed."""
    is_hidden = str(error) == _CUT_OFF_WRITE and time.monotonic() >= until_s
    return deadline_passed() if is_hidden else error


class Resumes:
    """The losses of one stream, and their limits."""

    def __init__(
        self,
        request: Any,
        most: int,
        timeout_s: float,
        writer: TextWriter | None = None,
    ) -> None:
        """request: of a text in pieces, its configuration. most: how many losses within RECENT_S, or without audio
        between them, the stream survives. timeout_s: of all calls together.
        """
        self.hindrance = ""  # why the stream cannot be resumed, if there is a reason beside the loss
        self._request = request
        self._most = most
        self._writer = writer
        self._recent: list[float] = []  # times of losses that count
        self._loss: ServerError | None = None  # the first one since audio came
        self._lost_at = -1  # samples received by then
        self.timeout_s = timeout_s
        self._until_s = time.monotonic() + timeout_s

    def after(self, error: ServerError, reader: SpeechReader, *, is_found: bool = False) -> NextCall | None:
        """The next call after the loss `error`, which the reader then expects; None if the stream cannot be resumed.

        is_found: a server, after a call that reached none. Without one, only calls after a loss are opened again.
        """
        now_s = time.monotonic()
        left_s = self._until_s - now_s
        if is_unreached(error):
            may_wait = (is_found or bool(self._recent)) and left_s > 0
            if not may_wait or (self._writer is not None and not self._writer.begin_again()):
                return None
            delay_s = 0.0 if is_found else min(UNREACHED_DELAY_S, left_s)
            return NextCall(self._request, left_s - delay_s, delay_s)
        has_new_audio = reader.sample_count > self._lost_at
        if has_new_audio:  # without it even old losses count
            self._recent = [lost_at_s for lost_at_s in self._recent if now_s - lost_at_s < RECENT_S]
        if not self._is_loss(error, reader) or len(self._recent) >= self._most or left_s <= 0:
            return None
        if self._writer is not None and not self._writer.begin_again():
            self.hindrance = f"A text of over {MOST_KEPT_BYTES // 1024} KiB does not go on at another server."
            return None
        self._recent.append(now_s)
        if has_new_audio:
            self._loss, self._lost_at = error, reader.sample_count
        if reader.header is not None:
            self._request.sampling_params.seed = reader.header.seed
            self._request.stream_config.heard_sample_count = reader.sample_count
            config = self._request.stream_config
            config.checkpoints[:] = reader.checkpoints
            config.speech_checkpoints[:] = reader.speech_checkpoints
        reader.begin_again()
        asked_s = error.retry_delay_s or 0.0
        delay_s = min(MOST_DELAY_S, max(asked_s, FIRST_DELAY_S * 2 ** (len(self._recent) - 1)), left_s)
        return NextCall(self._request, left_s - delay_s, delay_s)

    def _is_loss(self, error: ServerError, reader: SpeechReader) -> bool:
        """Whether the call may be made again after `error`.

        Before the header, gRPC itself retries what a server refuses with a reason, unless the request is too large.
        After a loss, another server may still count the lost call, and refuse the next one by the caller's quota.
        """
        if self._recent and error.reason == _OVER_QUOTA:
            return True
        if self._writer is not None and str(error) == _CUT_OFF_WRITE:
            return True
        if error.code not in _LOST or reader.header is not None:
            return error.code in _LOST
        return error.reason == error.code.name or self._request.ByteSize() > LARGE_BYTES

    def cause(self, error: ServerError, reader: SpeechReader) -> ServerError:
        """The error to report when `error` ends the attempts to resume: the first loss since new audio came."""
        if self._loss is not None and reader.sample_count == self._lost_at > 0:
            return self._loss
        return unhidden(error, self._until_s)
