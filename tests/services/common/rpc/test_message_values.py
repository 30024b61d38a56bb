"""The number of values in a message, counted before it is parsed, compared with the parsed message."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from csm.codec.v1 import codec_pb2
from csm.v1 import tts_pb2
from google.protobuf.message import DecodeError, Message

from services.common.rpc.messages import MOST_VALUES, _count, has_too_many_values

KIND = tts_pb2.StreamSynthesizeRequest.DESCRIPTOR
FILLING = b"\x7a" + b"\xc0\xb8\x02" + bytes(40_000)  # an unknown field with one value of many bytes
A_GROUP = b"\x7b\x7c"


def values_of(message: Message) -> int:
    """The number of values in a parsed message."""
    count = 0
    for field, value in message.ListFields():
        if field.message_type is None:
            count += 1 if isinstance(value, (str, bytes, int, float)) else len(value)
        elif field.message_type.GetOptions().map_entry:
            count += 3 * len(value)  # the entry, its key and its value
        else:
            for each in [value] if isinstance(value, Message) else value:
                count += 1 + values_of(each)
    return count


def drawn(random: Random) -> Any:
    message = tts_pb2.StreamSynthesizeRequest(request_id="x" * random.randrange(200))
    for _ in range(random.randrange(20)):
        turn = message.context.turns.add(speaker=random.randrange(2**20), text="words " * random.randrange(90))
        turn.audio.recording.audio_content = random.randbytes(random.randrange(3000))
        turn.audio.recording.audio_format.sample_rate_hertz = random.randrange(1, 2**30)
    for number in range(random.randrange(5)):
        message.labels[str(number)] = "x"
    message.stream_config.checkpoints.extend(random.randbytes(random.randrange(9)) for _ in range(random.randrange(9)))
    message.audio_config.speed = random.random()
    message.max_audio_duration.seconds = -random.randrange(2**40)
    return message


@pytest.mark.parametrize("seed", range(50))
def test_as_many_values_are_counted_as_the_parsed_message_has(seed: int) -> None:
    message = drawn(Random(seed))
    assert _count(message.SerializeToString(), KIND) == values_of(message)
    assert _count(message.SerializeToString() + FILLING, KIND) == values_of(message) + 1


@pytest.mark.parametrize("seed", range(200))
def test_the_count_refuses_only_messages_that_the_parser_refuses(seed: int) -> None:
    random = Random(seed)
    content = bytearray(drawn(random).SerializeToString())
    for _ in range(random.randrange(1, 4)):
        content[random.randrange(len(content))] = random.randrange(256)
    try:
        _count(bytes(content), KIND)
    except DecodeError as error:
        if str(error) != "a group":
            with pytest.raises(DecodeError):
                tts_pb2.StreamSynthesizeRequest.FromString(bytes(content))


def test_one_value_too_many_is_one_too_many() -> None:
    config = codec_pb2.StreamDetectWatermarkConfig(key_ids=["k"] * MOST_VALUES)
    assert not has_too_many_values(config.SerializeToString(), config.DESCRIPTOR)
    config.key_ids.append("k")
    assert has_too_many_values(config.SerializeToString(), config.DESCRIPTOR)


def test_counting_stops_above_the_limit() -> None:
    turns = tts_pb2.SynthesisContext(turns=[tts_pb2.Turn()] * (10 * MOST_VALUES)).SerializeToString()
    assert _count(turns + b"no message", tts_pb2.SynthesisContext.DESCRIPTOR) == MOST_VALUES + 1


@pytest.mark.parametrize("content", [A_GROUP, b"\x7a", b"\x7a\x05abcd", b"\x08" + b"\xff" * 11, b"\x79abc"])
def test_bytes_that_are_no_message_are_refused(content: bytes) -> None:
    with pytest.raises(DecodeError):
        has_too_many_values(FILLING + content, KIND)
