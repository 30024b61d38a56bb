"""Watermark, tokens, voices, keyboard, names for screen readers, dark and light."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from csm.codec.v1 import codec_pb2
from google.protobuf import duration_pb2
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import ThreadedDoor, threaded_door
from tests.support.door.browsers.page import Browser, Page

RECORDING = Path(__file__).parents[1] / "assets" / "speech_24khz.wav"  # 3.565 seconds


def test_marked_stretches_are_drawn_over_the_waveform(page: Page, door: ThreadedDoor) -> None:
    door.codec.detection.stretches.append(
        codec_pb2.WatermarkedStretch(
            start_offset=duration_pb2.Duration(seconds=1),
            end_offset=duration_pb2.Duration(seconds=2),
            key_id="key-1",
            confidence=0.5,
        )
    )
    page.click("tab-watermark")
    page.find("watermark-file").send_keys(str(RECORDING))
    page.until(lambda: page.find("stretches").is_displayed())
    cells = [cell.text for cell in page.all("#stretches tbody td")]
    assert cells == ["1.00 s", "2.00 s", "key-1", "50 %"]
    assert page.text("watermark-answer").startswith("1.00 s of speech_24khz.wav were made on this server: key key-1")
    page.until(lambda: page.pixel("waveform", 1.5 / 3.565, 1)[3] > 0)
    drawn = [page.pixel("waveform", second / 3.565, 1)[3] > 0 for second in (0.9, 1.1, 1.9, 2.1, 3)]
    assert drawn == [False, True, True, False, False]


def test_recording_dropped_before_the_first_click_is_searched(page: Page, door: ThreadedDoor) -> None:
    drop = (
        "const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));"
        "const files = new DataTransfer();"
        "files.items.add(new File([bytes], 'dropped.wav', { type: 'audio/wav' }));"
        "const about = { dataTransfer: files, bubbles: true, cancelable: true };"
        "document.body.dispatchEvent(new DragEvent('drop', about))"
    )
    page.script(drop, base64.b64encode(RECORDING.read_bytes()).decode())
    page.until(lambda: "dropped.wav" in page.text("watermark-answer") and door.codec.detected)
    assert page.text("stat-length") == "3.6 s"


def test_a_file_that_is_no_recording_shows_an_error(page: Page, tmp_path: Path) -> None:
    (tmp_path / "letter.wav").write_text("no sound")
    page.click("tab-watermark")
    page.find("watermark-file").send_keys(str(tmp_path / "letter.wav"))
    page.until(lambda: page.all(".wrong") or page.find("alert").is_displayed())


def test_spoken_audio_is_searched_for_the_mark(page: Page, door: ThreadedDoor) -> None:
    page.click("speak-go")
    page.until(lambda: page.text("outcome"))
    page.click("find")
    page.until(lambda: "made on this server" in page.text("watermark-answer"))
    assert len(door.codec.detected[0].samples) == 2 * 2 * 24_000


def test_token_is_asked_for_and_stays_in_the_tab(browser: Browser, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps([{"name": "ann", "sha256": hashlib.sha256(b"sesame").hexdigest()}]))
    with threaded_door({"auth_tokens_file": tokens}) as door:
        page = Page(browser, door.url)
        assert page.find("token").is_displayed() and page.text("server-text") == "asks for a token"
        page.write("token", "wrong")
        page.find("token").send_keys(Keys.ENTER)
        page.until(lambda: page.all(".wrong"))
        page.write("token", "sesame")
        page.find("token").send_keys(Keys.ENTER)
        page.until(lambda: page.text("server-text") == "fake/1")
        page = Page(browser, door.url)
        assert not page.find("token-form").is_displayed()
        page.click("tab-typing")
        page.find("typing-text").send_keys("Hello.", Keys.ENTER)
        page.until(lambda: page.text("outcome") == "All is said.")
        assert page.script("return [sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
        page.script("sessionStorage.clear()")
        browser.driver.get("about:blank")


def test_voice_is_kept_from_a_recording_and_deleted(browser: Browser, tmp_path: Path) -> None:
    with threaded_door({"voices_database": str(tmp_path / "voices.sqlite")}) as door:
        door.codec.detection = codec_pb2.DetectWatermarkResponse()
        page = Page(browser, door.url)
        page.click("voice-new")
        for field, text in (("name", "eve"), ("text", "What is said."), ("consent-id", "17")):
            page.write(f"voice-{field}", text)
        page.find("voice-file").send_keys(str(RECORDING))
        page.until(lambda: page.text("voice-recording") == "3.6 s of sound")
        page.click("voice-keep")
        (note,) = page.until(lambda: page.all(".wrong"))
        assert page.find("voice-consent-text").get_attribute("aria-invalid") == "true", note.text
        page.write("voice-consent-text", "Eve agreed.")
        page.click("voice-keep")
        page.until(lambda: page.find("voice").get_attribute("value") == "eve")
        page.click("speak-go")
        page.until(lambda: page.text("outcome") == "2.0 s of eve.")
        page.until(lambda: page.find("voice-delete").is_displayed())
        page.click("voice-delete")
        page.driver.switch_to.alert.accept()
        page.until(lambda: page.find("voice").get_attribute("value") == "ada")
        assert page.faults() == []
        browser.driver.get("about:blank")


def test_tabs_follow_the_arrow_keys(page: Page) -> None:
    page.find("tab-speak").send_keys(Keys.ARROW_LEFT)
    assert page.driver.switch_to.active_element == page.find("tab-watermark")
    assert page.find("watermark").is_displayed() and not page.find("speak").is_displayed()
    page.find("tab-watermark").send_keys(Keys.ARROW_RIGHT)
    assert page.find("tab-speak").get_attribute("aria-selected") == "true"


@pytest.mark.parametrize("tab", ["speak", "conversation", "typing", "watermark"])
def test_every_control_has_an_accessible_name(page: Page, tab: str) -> None:
    page.click(f"tab-{tab}")
    used = "button, textarea, input, select, canvas, table, [role=tabpanel]"
    found = [one for one in page.all(used) if one.is_displayed()]
    assert len(found) > 15
    assert [one.get_attribute("outerHTML") for one in found if not one.accessible_name.strip()] == []


def test_focus_is_visible(page: Page) -> None:
    page.find("tab-speak").send_keys(Keys.TAB)
    outline = "const style = getComputedStyle(document.activeElement); return [style.outlineStyle, style.outlineWidth]"
    assert page.script(outline) == ["solid", "2px"]


def test_colours_follow_the_system_s_theme(page: Page) -> None:
    if not page.browser.can_change_colours:
        pytest.skip("this browser cannot change them while it runs")
    ground = "return getComputedStyle(document.body).backgroundColor"
    page.use_colours("light")
    light = page.script(ground)
    page.use_colours("dark")
    assert page.script(ground) != light
    page.use_colours("light")


def test_narrow_page_is_no_wider_than_its_window(page: Page) -> None:
    page.browser.narrow(360)
    try:
        width = page.until(lambda: (found := page.script("return innerWidth")) < 450 and found)
        for tab in ("speak", "conversation", "typing", "watermark"):
            page.click(f"tab-{tab}")
            assert page.script("return document.documentElement.scrollWidth") <= width, tab
    finally:
        page.browser.widen()
