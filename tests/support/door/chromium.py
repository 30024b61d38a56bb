"""Chromium without a window, and what a test does with the page of the HTTP door in it. Everything here blocks."""

from __future__ import annotations

import base64
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

WAIT_S = 30
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",  # a microphone that beeps
    "--use-fake-ui-for-media-stream",
)
# Counts the samples that reach the loudspeaker, in every page that is opened.
_TAP = """
window.heard = { samples: 0, loud: 0 };
const connect = AudioNode.prototype.connect;
const taps = new WeakMap();
AudioNode.prototype.connect = function (to, ...rest) {
  const context = this.context;
  if (to === context.destination && context instanceof AudioContext) {
    if (!taps.has(context)) {
      const tap = context.createScriptProcessor(2048, 1, 1);
      tap.onaudioprocess = ({ inputBuffer }) => {
        const samples = inputBuffer.getChannelData(0);
        window.heard.samples += samples.length;
        window.heard.loud += samples.filter((sample) => sample !== 0).length;
      };
      connect.call(tap, context.destination);
      taps.set(context, tap);
    }
    connect.call(this, taps.get(context));
  }
  return connect.call(this, to, ...rest);
};
"""

T = TypeVar("T")


def missing() -> str:
    """What this machine lacks for a browser; "" if nothing."""
    lacks = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"no {' and no '.join(lacks)}; on Debian: apt-get install chromium chromium-driver" if lacks else ""


@contextmanager
def chromium(width: int = 1180, height: int = 900) -> Iterator[Chrome]:
    """A browser with an empty profile. width, height: of its window, in pixels"""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for flag in (*_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _TAP})
            yield driver
        finally:
            driver.quit()


class Page:
    """The page in a browser."""

    def __init__(self, driver: Chrome, url: str) -> None:
        """Returns when it has the voices, or an error in their place."""
        self.driver = driver
        driver.get(url)
        self.until(lambda: self.script("return document.getElementById('server').className !== 'server'"))

    def script(self, source: str, *arguments: Any) -> Any:
        return self.driver.execute_script(source, *arguments)

    def until(self, condition: Callable[[], T]) -> T:
        """Raises TimeoutException."""
        return WebDriverWait(self.driver, WAIT_S, 0.05).until(lambda _: condition())

    def find(self, id: str) -> WebElement:
        return self.driver.find_element(By.ID, id)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def click(self, id: str) -> None:
        self.until(lambda: self.find(id).is_enabled())
        self.find(id).click()

    def write(self, id: str, text: str) -> None:
        """In place of what is there."""
        self.find(id).clear()
        self.find(id).send_keys(text)

    def text(self, id: str) -> str:
        return self.find(id).text

    @property
    def heard(self) -> int:
        """Samples that were played and are not silence."""
        return int(self.script("return window.heard.loud"))

    def until_quiet(self) -> None:
        """Until all that has come is played."""
        self.until(lambda: not self.find("stop").is_enabled())

    def pixel(self, canvas: str, x_share: float, y: int) -> list[int]:
        """Red, green, blue, alpha at a share of the width, and a number of CSS pixels from the top."""
        found: list[int] = self.script(
            "const canvas = document.getElementById(arguments[0]), at = Math.round(arguments[1] * canvas.width);"
            "return [...canvas.getContext('2d').getImageData(at, arguments[2] * devicePixelRatio, 1, 1).data]",
            canvas,
            x_share,
            y,
        )
        return found

    def use_colours(self, scheme: str) -> None:
        """scheme: light or dark"""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.script(
            "const twice = (done) => requestAnimationFrame(() => requestAnimationFrame(done));"
            "return new Promise(twice).then(() => Promise.all(document.getAnimations()"
            ".filter((one) => one instanceof CSSTransition).map((one) => one.finished)))"
        )

    def screenshot(self) -> bytes:
        """A PNG of the whole page."""
        answer = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True})
        return base64.b64decode(answer["data"])

    def faults(self) -> list[str]:
        """What the console has that no test may cause: scripts that failed, files that the policy forbids."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        messages = [entry["message"] for entry in entries if entry["level"] == "SEVERE"]
        return [message for message in messages if "Failed to load resource" not in message or "/page/" in message]
