"""The config message with which a text stream begins."""

from __future__ import annotations

import pytest
from csm.v1 import tts_pb2


@pytest.fixture
def config(stream_request: tts_pb2.StreamSynthesizeRequest) -> tts_pb2.StreamSynthesizeRequest:
    stream_request.input.text = ""
    return stream_request
