"""A stream that goes on at another gateway: the same request with the same seed gives the same samples. It knows no
channel.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import grpc
from csm.v1 import tts_pb2

from csm_client.errors import ServerError
from csm_client.speech import SpeechReader

DEFAULT_RESUMES = 3
FIRST_DELAY_S, MOST_DELAY_S = 0.1, 2.0  # before a call is opened again; twice as long each time

_LOST = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
# What has a fixed number of bytes for each sample, so that samples can be dropped.
_DIVISIBLE = {tts_pb2.AUDIO_ENCODING_PCM, tts_pb2.AUDIO_ENCODING_MULAW, tts_pb2.AUDIO_ENCODING_ALAW}


@dataclass(frozen=True, slots=True)
class NextCall:
    """A call that takes a stream up."""

    request: tts_pb2.StreamSynthesizeRequest
    timeout_s: float
    delay_s: float  # before it is opened


class Resumes:
    """How often one stream may still be taken up, and until when."""

    def __init__(self, request: tts_pb2.StreamSynthesizeRequest, most: int, timeout_s: float) -> None:
        """most: calls beside the first; timeout_s: of the stream, all calls together"""
        self._request = request
        self._most = most
        self._count = 0
        self._loss: ServerError | None = None  # the first since new audio came
        self._lost_at = -1  # sample
        self._until_s = time.monotonic() + timeout_s

    def after(self, error: ServerError, reader: SpeechReader) -> NextCall | None:
        """What comes after the loss `error`; the reader then expects it. None when `error` is the end."""
        left_s = self._until_s - time.monotonic()
        header = reader.header
        if error.code not in _LOST or header is None or self._count >= self._most or left_s <= 0:
            return None
        if self._request.audio_config.audio_encoding not in _DIVISIBLE:
            return None
        self._count += 1
        if reader.sample_count > self._lost_at:
            self._loss, self._lost_at = error, reader.sample_count
        self._request.sampling_params.seed = header.seed
        reader.begin_again()
        asked_s = error.retry_delay_s or 0.0
        delay_s = min(MOST_DELAY_S, max(asked_s, FIRST_DELAY_S * 2 ** (self._count - 1)), left_s)
        return NextCall(self._request, left_s - delay_s, delay_s)

    def cause(self, error: ServerError, reader: SpeechReader) -> ServerError:
        """What the stream was lost by, when `error` ends the attempts to go on."""
        return self._loss if self._loss is not None and reader.sample_count == self._lost_at else error
