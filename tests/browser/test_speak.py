"""Speaking: what is streamed is heard and drawn while it comes, a stop reaches the engine, errors are shown."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import ThreadedDoor
from tests.support.door.browsers.page import Page
from tests.support.fake_stages import FRAME_SAMPLES


def test_all_streamed_audio_is_played(page: Page, door: ThreadedDoor) -> None:
    page.click("speak-go")
    page.until(lambda: page.text("outcome"))
    page.until_quiet()
    made = door.engine.frame_count * FRAME_SAMPLES
    assert page.played == made
    assert page.text("stat-length") == "2.0 s" and page.text("outcome") == "2.0 s of ada."
    assert page.text("stat-first").endswith(" ms") and float(page.text("stat-factor")) > 0
    assert page.script("return document.getElementById('live').textContent") == "2.0 s of ada."


def test_sound_plays_and_is_drawn_before_the_stream_ends(page: Page, door: ThreadedDoor) -> None:
    door.engine.script.pause_at = 12
    nothing_drawn = page.pixel("spectrogram", 0.1, 125)
    page.click("speak-go")
    page.until(lambda: page.heard > 0)
    assert not door.engine.calls[0].ended.is_set()
    page.until(lambda: page.pixel("spectrogram", 0.1, 125) != nothing_drawn)
    assert page.text("stat-first").endswith(" ms") and page.text("outcome") == ""
    door.resume()
    page.until(lambda: page.text("outcome"))


@pytest.mark.parametrize("how", ["button", "key"])
def test_stop_stops_the_upstream_call_and_the_sound(page: Page, door: ThreadedDoor, how: str) -> None:
    door.engine.script.pause_at = 20
    page.click("speak-go")
    page.until(lambda: page.heard > 0)
    if how == "button":
        page.click("stop")
    else:
        page.find("text").send_keys(Keys.ESCAPE)
    assert door.ended(door.engine.calls[0]) == "CancelledError"
    page.until(lambda: page.text("outcome") == "Stopped.")
    assert page.find("speak-go").is_enabled() and not page.find("stop").is_enabled()


def test_settings_reach_the_engine(page: Page, door: ThreadedDoor) -> None:
    seed = 2**62 + 1  # more than a JavaScript number holds
    page.script("document.getElementById('voice').value = 'bo'")
    page.script("document.getElementById('speed').value = 1")  # twice as fast
    for name, value in (("temperature", "0.5"), ("top_k", "7"), ("seed", str(seed)), ("max_audio_seconds", "1")):
        page.write(name, value)
    page.find("text").send_keys(Keys.CONTROL, Keys.ENTER)
    page.until(lambda: "Cut at the longest length." in page.text("outcome"))
    request = door.engine.calls[0].request
    assert request.segments[-1].speaker_id == 1 and request.max_frame_count == 25
    sampling = request.sampling_params
    assert (sampling.temperature, sampling.top_k, sampling.seed) == (0.5, 7, seed)
    assert door.codec.calls[0].request.speed == 2
    page.write("seed", "")
    page.click("seed-keep")
    assert page.find("seed").get_attribute("value") == str(seed)


@pytest.mark.parametrize("format", ["wav", "mp3", "opus", "aac", "flac", "mulaw", "alaw"])
def test_every_format_is_played(page: Page, format: str) -> None:
    page.script("document.getElementById('response_format').value = arguments[0]", format)
    page.click("speak-go")
    page.until(lambda: page.text("outcome"))
    page.until_quiet()
    assert page.played > 20_000 and page.find("save").is_enabled()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("temperature", "9", "It is 9; it must be 0 to 2."), ("seed", "x", "It is 'x'; it must be a whole number.")],
)
def test_an_error_is_shown_at_its_field(page: Page, field: str, value: str, words: str) -> None:
    page.write(field, value)
    page.click("speak-go")
    (note,) = page.until(lambda: page.all(".wrong"))
    assert note.text == words and note.get_attribute("role") == "alert"
    wrong = page.find(field)
    assert wrong.get_attribute("aria-invalid") == "true" and wrong == page.driver.switch_to.active_element
    assert str(note.get_attribute("id")) in str(wrong.get_attribute("aria-describedby"))
    page.write(field, "1")
    page.click("speak-go")
    page.until(lambda: page.text("outcome"))
    assert not page.all(".wrong") and wrong.get_attribute("aria-invalid") is None


def test_an_empty_text_shows_an_error_at_its_field(page: Page) -> None:
    page.write("text", "")
    page.click("speak-go")
    page.until(lambda: page.all(".wrong"))
    assert page.find("text").get_attribute("aria-invalid") == "true"


def test_a_broken_stream_is_not_shown_as_a_success(page: Page, door: ThreadedDoor) -> None:
    door.engine.script.fail_at = 12
    page.click("speak-go")
    page.until(lambda: page.find("alert").is_displayed())
    assert page.text("alert") and page.text("outcome") == ""
