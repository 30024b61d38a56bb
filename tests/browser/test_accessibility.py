"""axe-core finds nothing in any state of the page, light and dark, wide and narrow."""

from __future__ import annotations

from pathlib import Path

import pytest
from csm.codec.v1 import codec_pb2
from google.protobuf import duration_pb2
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import ThreadedDoor
from tests.support.door.browsers import chromium
from tests.support.door.browsers.page import Page

AXE = Path(__file__).parent / "axe" / "node_modules" / "axe-core" / "axe.min.js"
RECORDING = Path(__file__).parents[1] / "assets" / "speech_24khz.wav"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
STATES = ["speak", "conversation", "typing", "watermark", "speaking", "spoken", "wrong", "broken", "token", "voice"]


def bring(page: Page, door: ThreadedDoor, state: str) -> None:
    match state:
        case "speak" | "token":
            if state == "token":
                page.click("token-open")
        case "conversation":
            page.click("tab-conversation")
            page.write("turn-text", "Where have you been?")
            page.click("turn-go")
            page.until(lambda: page.all("#turns li"))
            page.find("turn-file").send_keys(str(RECORDING))
            page.until(lambda: len(page.all("#turns li")) == 2)
        case "typing":
            page.click("tab-typing")
            page.find("typing-text").send_keys("Hello there. How are you?", Keys.ENTER)
            page.until(lambda: page.text("outcome") == "All is said.")
            door.engine.script.pause_at = 0
            page.find("typing-text").send_keys("A long story.", Keys.ENTER)
            page.until(lambda: len(page.all("#said li")) == 3)
        case "watermark":
            stretch = codec_pb2.WatermarkedStretch(end_offset=duration_pb2.Duration(seconds=2), key_id="key-1")
            door.codec.detection.stretches.append(stretch)
            page.click("tab-watermark")
            page.find("watermark-file").send_keys(str(RECORDING))
            page.until(lambda: page.find("stretches").is_displayed())
        case "speaking":
            door.engine.script.pause_at = 12
            page.click("speak-go")
            page.until(lambda: page.text("stat-first").endswith("ms"))
        case "spoken":
            page.click("speak-go")
            page.until(lambda: page.text("outcome"))
        case "wrong":
            page.write("temperature", "9")
            page.click("speak-go")
            page.until(lambda: page.all(".wrong"))
        case "broken":
            door.engine.script.fail_at = 12
            page.click("speak-go")
            page.until(lambda: page.find("alert").is_displayed())
        case "voice":
            page.click("voice-new")
            page.click("voice-keep")
            page.until(lambda: page.all(".wrong"))


def found(page: Page) -> list[str]:
    page.script(AXE.read_text() + "; window.axe = axe")
    answer = page.script("return axe.run({ runOnly: arguments[0], resultTypes: ['violations'] })", RULES)
    return [
        f"{rule['id']}: {node['html']} {node['failureSummary']}"
        for rule in answer["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("browser", [chromium], ids=["chromium"], indirect=True)
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing(page: Page, door: ThreadedDoor, state: str) -> None:
    if not AXE.is_file():
        pytest.skip("no axe-core; cd tests/browser/axe && npm ci")
    bring(page, door, state)
    problems = []
    for scheme in ("light", "dark"):
        page.use_colours(scheme)
        problems += [f"{scheme}: {problem}" for problem in found(page)]
        page.browser.narrow(360)
        problems += [f"{scheme} and narrow: {problem}" for problem in found(page)]
        page.browser.widen()
    page.use_colours("light")
    door.resume()
    assert problems == []
