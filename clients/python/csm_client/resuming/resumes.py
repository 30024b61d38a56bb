"""Whether a lost stream is asked for again: the same request with the same seed gives the same samples, and so does a
text whose pieces are the same. With the checkpoints that came, what the first server made is not made again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import grpc

from csm_client.credentials import CallMetadata
from csm_client.errors import ServerError
from csm_client.requests import LARGE_BYTES, size_metadata
from csm_client.resuming.reader import SpeechReader
from csm_client.text_writer import MOST_KEPT_BYTES, TextWriter

DEFAULT_RESUMES = 3
RECENT_S = 60.0  # a loss so long ago, if audio came since, is none of a request that ends every server it meets
FIRST_DELAY_S, MOST_DELAY_S = 0.1, 2.0  # before a call is opened again; twice as long each time

# The message of grpc.aio when a write met the end of the call. The true status is lost.
_CUT_OFF_WRITE = "Internal error from Core"
_LOST = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
_OVER_QUOTA = "QUOTA_EXCEEDED"
_NEVER_REACHED = ("last error: ", "errors resolving ")  # in messages of gRPC: no server was there to be lost


@dataclass(frozen=True, slots=True)
class NextCall:
    """The next call after a loss."""

    request: Any
    timeout_s: float
    delay_s: float  # before it is opened


def call_options(request: Any, metadata: CallMetadata, timeout_s: float, after: NextCall | None) -> dict[str, Any]:
    """The options of a stub's call. After a loss it waits for a server to come; the first call fails where none is.

    metadata: that of its size is added; timeout_s: of the first call
    """
    options = {"timeout": timeout_s, "metadata": metadata + size_metadata(request)}
    return options if after is None else {**options, "timeout": after.timeout_s, "wait_for_ready": True}


class Resumes:
    """How often one call may still be made again, within RECENT_S or without new audio, and until when."""

    def __init__(
        self,
        request: Any,
        most: int,
        timeout_s: float,
        writer: TextWriter | None = None,
    ) -> None:
        """request: a text's is its configuration. most: losses within RECENT_S, or without audio between them, that
        are gone on after. timeout_s: of all calls together
        """
        self.hindrance = ""  # why the last loss ended the stream, if the cause is not the loss itself
        self._request = request
        self._most = most
        self._writer = writer
        self._recent: list[float] = []  # times of losses
        self._loss: ServerError | None = None  # the first since new audio came
        self._lost_at = -1  # sample
        self._until_s = time.monotonic() + timeout_s

    def after(self, error: ServerError, reader: SpeechReader) -> NextCall | None:
        """The next call after the loss `error`; the reader then expects it. None when the stream cannot be resumed."""
        now_s = time.monotonic()
        left_s = self._until_s - now_s
        is_further = reader.sample_count > self._lost_at  # if not, each call may take long to end its server
        if is_further:
            self._recent = [lost_at_s for lost_at_s in self._recent if now_s - lost_at_s < RECENT_S]
        if not self._is_loss(error, reader) or len(self._recent) >= self._most or left_s <= 0:
            return None
        if self._writer is not None and not self._writer.begin_again():
            self.hindrance = f"A text of over {MOST_KEPT_BYTES // 1024} KiB does not go on at another server."
            return None
        self._recent.append(now_s)
        if is_further:
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
        """Before the header, a status without a reason, or of a request too large for gRPC's retries. After a loss, a
        server may count the lost call for a while and refuse the next one.
        """
        if self._recent and error.reason == _OVER_QUOTA:
            return True
        if self._writer is not None and str(error) == _CUT_OFF_WRITE:
            return True
        if error.code not in _LOST or reader.header is not None:
            return error.code in _LOST
        was_reached = not any(words in str(error) for words in _NEVER_REACHED)
        return was_reached and (error.reason == error.code.name or self._request.ByteSize() > LARGE_BYTES)

    def cause(self, error: ServerError, reader: SpeechReader) -> ServerError:
        """The error to report when `error` ends the attempts to resume: the first loss since new audio came."""
        return self._loss if self._loss is not None and reader.sample_count == self._lost_at > 0 else error
