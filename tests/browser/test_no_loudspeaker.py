"""Firefox starts no audio output where there is no loudspeaker, and tells the page nothing of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.conftest import ThreadedDoor
from tests.support.door.browsers import firefox
from tests.support.door.browsers.page import Page


@pytest.fixture
def silent(door: ThreadedDoor) -> Iterator[Page]:
    if lacks := firefox.missing():
        pytest.skip(lacks)
    with firefox.opened_without_loudspeaker() as browser:
        page = Page(browser, door.url)
        yield page
        assert page.faults() == []


def test_speech_without_a_loudspeaker_is_drawn_and_can_be_saved(silent: Page, door: ThreadedDoor) -> None:
    nothing_drawn = silent.pixel("spectrogram", 0.1, 125)
    silent.click("speak-go")
    silent.until(lambda: silent.text("outcome") == "2.0 s of ada.")
    assert silent.find("save").is_enabled() and silent.find("speak-go").is_enabled()
    silent.until(lambda: silent.pixel("spectrogram", 0.1, 125) != nothing_drawn)
    silent.until(lambda: silent.find("no-sound").is_displayed())
    silent.click("stop")
    assert not silent.find("stop").is_enabled()
