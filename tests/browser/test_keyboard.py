"""All of it without a mouse: the order of Tab, and a focus that is not lost."""

from __future__ import annotations

from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import ThreadedDoor
from tests.support.door.browsers.page import Page


def press(page: Page, *keys: str) -> None:
    for key in keys:
        ActionChains(page.driver).send_keys(key).perform()


def focused(page: Page) -> str:
    return str(page.script("return document.activeElement.id || document.activeElement.className"))


def test_text_is_spoken_again_and_again_without_a_mouse(page: Page, door: ThreadedDoor) -> None:
    press(page, Keys.TAB)
    assert focused(page) == "skip"
    press(page, Keys.ENTER)
    order = []
    for _ in range(3):
        press(page, Keys.TAB)
        order.append(focused(page))
    assert order == ["tab-speak", "text", "speak-go"]
    for count in (1, 2):
        press(page, Keys.ENTER)
        page.until(lambda count=count: len(door.engine.calls) == count)  # type: ignore[misc]
        page.until(lambda: page.text("outcome"))
        assert focused(page) == "speak-go"
    door.engine.script.pause_at = 12
    press(page, Keys.SPACE)
    page.until(lambda: len(door.engine.calls) == 3)
    page.until(lambda: page.text("stat-first").endswith("ms"))  # there is something to play
    press(page, Keys.ESCAPE)
    assert door.ended(door.engine.calls[2]) == "CancelledError"
    page.until(lambda: page.text("outcome") == "Stopped.")
    press(page, Keys.TAB)
    assert focused(page) == "play"


def test_dialog_gives_the_focus_back(page: Page) -> None:
    page.script("document.getElementById('voice-new').focus()")
    press(page, Keys.ENTER)
    page.until(lambda: page.find("voice-dialog").is_displayed())
    assert focused(page) == "voice-name"
    press(page, Keys.ESCAPE)
    page.until(lambda: not page.find("voice-dialog").is_displayed())
    assert focused(page) == "voice-new"
    press(page, Keys.TAB)
    press(page, *[Keys.TAB] * 2)
    assert focused(page) in ("temperature", "top_k")


def test_stop_moves_the_focus_to_the_play_button(page: Page, door: ThreadedDoor) -> None:
    door.engine.script.pause_at = 12
    page.click("speak-go")
    page.until(lambda: page.heard > 0)
    page.script("document.getElementById('stop').focus()")
    press(page, Keys.ENTER)
    page.until(lambda: page.text("outcome") == "Stopped.")
    assert focused(page) == "play"


def test_stop_before_any_sound_gives_the_focus_to_the_text(page: Page, door: ThreadedDoor) -> None:
    door.engine.script.pause_at = 0
    for count, (tab, text) in enumerate([("tab-speak", "text"), ("tab-typing", "typing-text")], 1):
        page.click(tab)
        page.find(text).send_keys("A long story.", Keys.CONTROL + Keys.ENTER)
        page.until(lambda count=count: len(door.engine.calls) == count)  # type: ignore[misc]
        page.script("document.getElementById('stop').focus()")
        press(page, Keys.ENTER)
        page.until(lambda: page.text("outcome") == "Stopped.")
        assert focused(page) == text


def test_stop_of_typed_speech_gives_the_focus_to_the_text(page: Page, door: ThreadedDoor) -> None:
    door.engine.script.pause_at = 10
    page.click("tab-typing")
    page.find("typing-text").send_keys("A long story. ", Keys.ENTER)
    page.until(lambda: page.heard > 0)
    press(page, Keys.TAB)
    assert focused(page) == "typing-stop"
    press(page, Keys.SPACE)
    page.until(lambda: page.text("outcome") == "Stopped.")
    assert focused(page) == "typing-text"
