"""Which texts have words: the same for every method, and all that the text front end can read."""

from __future__ import annotations

import sys
import unicodedata
from itertools import product
from typing import Any

import pytest
from csm.v1 import tts_pb2

from csm_text.frontend import NAMES, FrontEnd, load
from csm_text.symbols import PHONES
from services.gateway.synthesis.texts.sentences import SentenceCutter, sentences_of
from services.gateway.synthesis.texts.words import READ_ALOUD, has_words
from tests.services.gateway.requests.test_validation import violations
from tests.services.gateway.requests.wrong_requests import Request
from tests.support.cost.shared import SHARED
from tests.support.fake_deployment import FakeDeployment
from tests.support.text_streams import messages_of

THUMBS_UP, PARTY, DANDA = "\N{THUMBS UP SIGN}\ufe0f", "\N{PARTY POPPER}", "\N{DEVANAGARI DANDA}"


@pytest.mark.parametrize(
    "text",
    ["?!", "...", " \n\u2026 ", f"{THUMBS_UP} {PARTY}", "\u00bf?", "- ***", "\u3002", DANDA, ":D", "=) <3", "<br/>"],
)
@SHARED
async def test_a_text_without_words_is_refused_by_every_method(
    shared_tts: Any, unary_request: tts_pb2.SynthesizeRequest, stream_request: Request, text: str
) -> None:
    config = Request()
    config.CopyFrom(stream_request)
    unary_request.input.text = stream_request.input.text = text
    calls = {
        "input.text": [shared_tts.Synthesize(unary_request), shared_tts.StreamSynthesize(stream_request).read()],
        "text": [shared_tts.StreamSynthesizeText(messages_of(without_text(config), [text])).read()],
    }
    for field, made in calls.items():
        for call in made:
            (found,) = await violations(call)
            assert (found.field, found.reason) == (field, "TEXT_EMPTY")
            assert "has nothing to say: it needs a letter" in found.description


@pytest.mark.parametrize("text", ["5", "%", "$5", "&", "\u2103", "好", "नमस्ते", "مرحبا", "٣", "๓", "½", "ß", "a?!"])
@SHARED
async def test_letters_digits_and_signs_that_are_read_aloud_are_words(
    shared_deployment: FakeDeployment, shared_tts: Any, stream_request: Request, text: str
) -> None:
    """Words of any script count. Turns of the context need none."""
    stream_request.context.turns.add(speaker=0, text=f"?! {PARTY}")
    stream_request.input.text = text
    await hear(shared_tts.StreamSynthesize(stream_request))
    await hear(shared_tts.StreamSynthesizeText(messages_of(without_text(stream_request), [text])))
    assert [call.request.segments[-1].text for call in shared_deployment.engine.calls] == [text] * 2


@pytest.mark.parametrize("name", [NAMES[-1], *(pytest.param(former, marks=pytest.mark.slow) for former in NAMES[:-1])])
def test_characters_that_the_front_end_speaks_alone_count_as_words(name: str) -> None:
    """Every character of Unicode that is neither letter nor digit."""
    front_end = load(name)
    others = [
        c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c)[0] in "MPSZ" and not c.isalnum()
    ]
    said = {c for c in others if phones_of(front_end, c)}
    assert len(others) > 9000 and not {c for c in said if not has_words(c)}
    assert READ_ALOUD <= said


@pytest.mark.parametrize("name", NAMES)
def test_characters_that_the_front_end_skips_do_not_count_as_words(name: str) -> None:
    """Emoticons and markup may consist of letters, digits and signs. Beside words they change nothing."""
    front_end = load(name)
    faces = ["".join(parts) for parts in product(":;=", ["", *"-'^o"], "()DPpOo3/|*[]\\")]
    for text in [*faces, "<3", "^_^", "xD", "XD", "<br>", "</b>", '<break time="1s"/>', ":D =)\n<3"]:
        assert not phones_of(front_end, text) and not has_words(text), text
        assert has_words(f"Hello {text}") and has_words(f"{text} you")
    for text in ["D:", "8)", "a=)", "1 = 2", "x:D", ":Dd", "1 < 3", "3"]:
        assert phones_of(front_end, text) and has_words(text), text


def test_an_address_on_a_line_of_its_own_is_spoken() -> None:
    """It is between signs of Markdown, and the front end reads it."""
    text = "See the page.\n\n<https://example.com>\n\nGood bye."
    assert sentences_of(text, "en") == ("See the page.", "<https://example.com>", "Good bye.")
    assert phones_of(load(NAMES[-1]), "<https://example.com>") and has_words("<http://example.com/a>")


def test_an_emoticon_behind_a_sentence_is_no_sentence() -> None:
    cutter = SentenceCutter("en")
    assert [*cutter.push("Great! "), *cutter.push(":D"), *cutter.flush()] == ["Great!"]


async def hear(call: Any) -> None:
    kinds = [response.WhichOneof("event") async for response in call]
    assert "audio_chunk" in kinds and kinds[-1] == "summary"


def phones_of(front_end: FrontEnd, text: str) -> set[str]:
    return set(PHONES).intersection(front_end.phonemize(text).split())


def without_text(request: Request) -> Request:
    request.input.text = ""
    return request
