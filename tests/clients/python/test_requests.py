"""Requests from plain values: what cannot be one is refused by name before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest
from csm_client.requests import create_voice_request, stream_request, unary_request


@pytest.mark.parametrize("make", [unary_request, stream_request, create_voice_request])
def test_an_option_that_there_is_not_is_refused(make: Any) -> None:
    """It would have no effect: a wrong name is easily written."""
    with pytest.raises(TypeError, match=r"There is no option 'sed'; the options are .*seed"):
        make("Hello.", {"sed": 7})


def test_chunks_are_of_streams_alone() -> None:
    assert stream_request("Hello.", {"chunk_seconds": 0.5}).stream_config.chunk_duration.nanos == 500_000_000
    with pytest.raises(TypeError, match="There is no option 'chunk_seconds'"):
        unary_request("Hello.", {"chunk_seconds": 0.5})  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoding": "ogg"}, "encoding is 'ogg': it must be one of pcm, wav, opus, "),
        ({"seed": 2**63}, "seed is 9223372036854775808: "),
        ({"seed": "7"}, "seed is of type str: "),
        ({"speaker": 2**40}, "speaker is 1099511627776: "),
        ({"max_seconds": float("nan")}, "max_seconds is nan: "),
        ({"max_seconds": float("inf")}, "max_seconds is inf: "),
        ({"temperature": None}, "temperature is None: "),
        ({"voice": "\ud800"}, "voice is of type str: "),
        ({"context": 7}, "context is 7: "),
        ({"context": [{"speaker": 0, "text": "Hi."}]}, "context is of type list: "),
    ],
)
def test_a_value_that_the_message_cannot_hold_is_named(options: Any, words: str) -> None:
    for make in (unary_request, stream_request):
        with pytest.raises((TypeError, ValueError)) as raised:
            make("Hello.", options)
        assert str(raised.value).startswith(words)


def test_a_text_that_is_none_is_named_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="text is of type str: ") as raised:
        unary_request("secret \ud800", {})
    assert "secret" not in str(raised.value)
