"""What a test does with the page of the HTTP door in a browser. Everything here blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

WAIT_S = 30
# Counts samples on their way to the loudspeaker, and collects errors of scripts. `samples` and `loud` are counted on
# the page's thread, which loses or repeats some on a busy machine. `played` is exact: the length of all pieces that,
# as the browser reports, ended by themselves.
_TAP = """
if (window.heard) return;
window.heard = { samples: 0, loud: 0, played: 0 };
const stopped = new WeakSet();
const stop = AudioBufferSourceNode.prototype.stop;
AudioBufferSourceNode.prototype.stop = function (...rest) {
  stopped.add(this);
  return stop.call(this, ...rest);
};
window.faults = [];
window.addEventListener("error", ({ message }) => window.faults.push(message));
window.addEventListener("unhandledrejection", ({ reason }) => window.faults.push(`not handled: ${reason}`));
document.addEventListener("securitypolicyviolation", (event) => window.faults.push(`forbidden: ${event.blockedURI}`));
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
    this.addEventListener("ended", () => (window.heard.played += stopped.has(this) ? 0 : this.buffer.length));
  }
  return connect.call(this, to, ...rest);
};
"""

T = TypeVar("T")


class Browser(Protocol):
    """A browser, and the commands that WebDriver lacks."""

    name: str
    can_record: bool  # has a microphone that beeps
    can_change_colours: bool

    @property
    def driver(self) -> WebDriver: ...

    def use_colours(self, scheme: str) -> None:
        """scheme: light or dark"""

    def narrow(self, width: int) -> None:
        """Makes the page that narrow, or as narrow as this browser can."""

    def widen(self) -> None:
        """Undoes `narrow`."""

    def complaints(self) -> list[str]:
        """Errors in its console that no test may cause: failed scripts, files that the policy forbids."""


class Page:
    """The page in a browser."""

    def __init__(self, browser: Browser, url: str) -> None:
        """Opens the page, and waits until it shows the server's voices or an error."""
        self.browser = browser
        self.driver = browser.driver
        self.driver.get(url)
        self.script(_TAP)  # no sound is made before the first click
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
        """Replaces the text of an input."""
        self.find(id).clear()
        if text:  # WebKit's driver refuses to send no keys
            self.find(id).send_keys(text)

    def text(self, id: str) -> str:
        return self.find(id).text

    @property
    def heard(self) -> int:
        """Roughly how many samples have been played that are not silence."""
        return int(self.script("return window.heard.loud"))

    @property
    def played(self) -> int:
        """Samples of all pieces that were played to their end, at each piece's own rate."""
        return int(self.script("return window.heard.played"))

    def until_quiet(self) -> None:
        """Waits until everything received so far has been played."""
        self.until(lambda: not self.find("stop").is_enabled())

    def pixel(self, canvas: str, x_share: float, y: int) -> list[int]:
        """[red, green, blue, alpha] at `x_share` of the canvas's width, `y` CSS pixels from the top."""
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
        self.browser.use_colours(scheme)
        self.script(
            "const twice = (done) => requestAnimationFrame(() => requestAnimationFrame(done));"
            "return new Promise(twice).then(() => Promise.all(document.getAnimations()"
            ".filter((one) => one instanceof CSSTransition).map((one) => one.finished)))"
        )

    def faults(self) -> list[str]:
        """Errors of this page and its scripts. A test may leave none."""
        return [*self.script("return window.faults"), *self.browser.complaints()]
