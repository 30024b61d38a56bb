"""A conversation sends its turns as context; what is typed is spoken sentence by sentence, and stops at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import ThreadedDoor
from tests.support.door.browsers.page import Page

RECORDING = Path(__file__).parents[1] / "assets" / "speech_24khz.wav"


def speak_turn(page: Page, text: str, count: int) -> None:
    page.write("turn-text", text)
    page.click("turn-go")
    page.until(lambda: len(page.all("#turns li")) == count)


def test_conversation_sends_its_context(page: Page, door: ThreadedDoor) -> None:
    page.click("tab-conversation")
    speak_turn(page, "Where have you been?", 1)
    speak_turn(page, "By the sea.", 2)
    page.find("turn-file").send_keys(str(RECORDING))
    page.until(lambda: len(page.all("#turns li")) == 3)
    page.write("turn-2-text", "Was it cold?")
    speak_turn(page, "Very.", 4)
    said = [[(part.speaker_id, part.text) for part in call.request.segments] for call in door.engine.calls]
    turns = [(0, "Where have you been?"), (1, "By the sea."), (0, "Was it cold?"), (1, "Very.")]
    assert said == [turns[:1], turns[:2], turns]
    assert all(part.HasField("codes") for part in door.engine.calls[2].request.segments[:3])
    assert len(door.codec.encoded) == 1  # the recording; spoken turns go back as codes


def test_a_recorded_turn_needs_its_transcript(page: Page, door: ThreadedDoor) -> None:
    if not page.browser.can_record:
        pytest.skip("this browser has no microphone here")
    page.click("tab-conversation")
    page.click("turn-record")
    page.until(lambda: page.find("turn-record").get_attribute("aria-pressed") == "true")
    page.script("return new Promise((done) => setTimeout(done, 700))")
    page.click("turn-record")
    page.until(lambda: page.all("#turns li"))
    page.write("turn-text", "And you?")
    page.click("turn-go")
    (note,) = page.until(lambda: page.all("#turns .wrong"))
    assert note.text == "Write what is said in this recording." and not door.engine.calls
    page.write("turn-0-text", "Beep.")
    page.click("turn-go")
    page.until(lambda: len(page.all("#turns li")) == 2)
    assert [part.text for part in door.engine.calls[0].request.segments] == ["Beep.", "And you?"]


def test_typed_sentences_are_spoken_when_they_end(page: Page, door: ThreadedDoor) -> None:
    page.click("tab-typing")
    field = page.find("typing-text")
    field.send_keys("Hello there. How are")
    page.until(lambda: page.all("#said li"))
    assert field.get_attribute("value") == "How are"
    field.send_keys(" you?", Keys.ENTER)
    page.until(lambda: page.text("outcome") == "All is said.")
    page.until_quiet()
    assert page.heard > 0
    assert [line.get_attribute("data-state") for line in page.all("#said li")] == ["said", "said"]
    assert [call.request.segments[-1].text.strip() for call in door.engine.calls] == ["Hello there.", "How are you?"]


def test_typed_speech_stops_at_once_and_can_be_started_again(page: Page, door: ThreadedDoor) -> None:
    door.engine.script.pause_at = 10
    page.click("tab-typing")
    page.find("typing-text").send_keys("A long story. ", Keys.ENTER)
    page.until(lambda: page.heard > 0)
    page.click("typing-stop")
    assert door.ended(door.engine.calls[0]) == "CancelledError"
    page.until(lambda: page.text("outcome") == "Stopped.")
    assert page.all("#said li")[0].get_attribute("data-state") == "dropped"
    door.engine.script.pause_at = None
    page.find("typing-text").send_keys("Another one.", Keys.ENTER)
    page.until(lambda: page.text("outcome") == "All is said.")


def test_a_websocket_error_is_shown_at_its_field(page: Page) -> None:
    page.write("temperature", "9")
    page.click("tab-typing")
    page.find("typing-text").send_keys("Hello.", Keys.ENTER)
    page.until(lambda: page.all(".wrong"))
    assert page.find("temperature").get_attribute("aria-invalid") == "true"


def test_text_typed_while_the_first_waits_joins_it(page: Page, door: ThreadedDoor) -> None:
    door.engine.script.pause_at = 0
    page.click("tab-typing")
    field = page.find("typing-text")
    field.send_keys("First one.", Keys.ENTER, "Second one.", Keys.ENTER)
    page.until(lambda: door.engine.script.paused.is_set())
    door.resume()
    page.until(lambda: page.text("outcome") == "All is said.")
    assert [call.request.segments[-1].text.strip() for call in door.engine.calls] == ["First one.", "Second one."]
    assert [line.get_attribute("data-state") for line in page.all("#said li")] == ["said", "said"]


def test_a_line_without_words_does_not_keep_the_page_busy(page: Page, door: ThreadedDoor) -> None:
    page.click("tab-typing")
    page.find("typing-text").send_keys("?!", Keys.ENTER)
    page.until(lambda: page.text("outcome") == "All is said.")
    assert not page.find("typing-stop").is_enabled() and not door.engine.calls


def test_a_line_that_is_cut_off_by_the_longest_audio_is_dropped(page: Page, door: ThreadedDoor) -> None:
    door.engine.script.pause_at = 5
    page.write("max_audio_seconds", "1")
    page.click("tab-typing")
    page.find("typing-text").send_keys("A long story. ", "It goes on. ", "And on. ")
    page.until(lambda: len(page.all("#said li")) == 3 and door.engine.script.paused.is_set())
    door.resume()
    page.until(lambda: page.text("outcome") == "All is said.")
    assert [line.get_attribute("data-state") for line in page.all("#said li")] == ["said", "dropped", "dropped"]
    page.find("typing-text").send_keys("Another one.", Keys.ENTER)
    page.until(lambda: page.all("#said li")[-1].get_attribute("data-state") == "said")
    assert [call.request.segments[-1].text.strip() for call in door.engine.calls] == ["A long story.", "Another one."]


def test_a_text_is_spoken_after_a_pause_in_typing(page: Page) -> None:
    page.click("tab-typing")
    page.find("typing-text").send_keys(
        "Hello there."
    )  # the pause ends it, and no key: browsers then let no sound begin
    page.until(lambda: page.text("outcome") == "All is said.")
    page.until(lambda: page.heard > 0)
