"""Chromium as a telephone: its size, its touch screen, and no sound before the first tap."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.conftest import ThreadedDoor
from tests.support.door.browsers import chromium
from tests.support.door.browsers.chromium import Chromium
from tests.support.door.browsers.page import Page

SIZES = {"small": (360, 740, 3), "iPhone": (390, 844, 3), "Pixel": (412, 915, 2.625)}
TABS = ("speak", "conversation", "typing", "watermark")
pytestmark = pytest.mark.parametrize("browser", [chromium], ids=["chromium"], indirect=True)


@pytest.fixture(params=SIZES)
def telephone(request: pytest.FixtureRequest, browser: Chromium, page: Page) -> Iterator[Page]:
    width, height, pixels = SIZES[request.param]
    browser.narrow(width, height, pixels)
    yield page
    browser.widen()


def tap(page: Page, browser: Chromium, id: str) -> None:
    place = page.script(
        "const one = document.getElementById(arguments[0]); one.scrollIntoView({ block: 'center' });"
        "const { x, y, width, height } = one.getBoundingClientRect(); return [x + width / 2, y + height / 2]",
        id,
    )
    browser.tap(*place)


def test_first_tap_starts_the_sound(telephone: Page, browser: Chromium, door: ThreadedDoor) -> None:
    assert telephone.script("return navigator.userActivation.hasBeenActive") is False
    tap(telephone, browser, "speak-go")
    telephone.until(lambda: telephone.heard > 0)
    telephone.until(lambda: telephone.text("outcome") == "2.0 s of ada.")
    assert not telephone.find("no-sound").is_displayed()


def test_sound_can_be_stopped_without_scrolling(telephone: Page, browser: Chromium, door: ThreadedDoor) -> None:
    door.engine.script.pause_at = 12
    tap(telephone, browser, "speak-go")
    telephone.until(lambda: telephone.heard > 0)
    script = "const { top, bottom } = document.getElementById('stop').getBoundingClientRect(); return [top, bottom]"
    top, bottom = telephone.script(script)
    assert 0 <= top and bottom <= telephone.script("return innerHeight")
    tap(telephone, browser, "stop")
    assert door.ended(door.engine.calls[0]) == "CancelledError"


def test_fields_are_large_enough(telephone: Page) -> None:
    """Safari zooms into fields with smaller letters, and leaves the page zoomed."""
    small = (
        "return [...document.querySelectorAll('textarea, select, input:not([type=radio], [type=range], [type=checkbox],"
        " [type=file])')].filter((one) => parseFloat(getComputedStyle(one).fontSize) < 16).map((one) => one.id)"
    )
    assert telephone.script(small) == []


def test_nothing_is_wider_than_the_screen(telephone: Page) -> None:
    width = telephone.script("return innerWidth")
    for tab in TABS:
        telephone.click(f"tab-{tab}")
        assert telephone.script("return document.documentElement.scrollWidth") <= width, tab
