"""Chromium without a window."""

from __future__ import annotations

import base64
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from tests.support.door.browsers.processes import lacking

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
    "--autoplay-policy=document-user-activation-required",  # no sound before the first click or key
    "--use-fake-device-for-media-stream",  # a microphone that beeps
    "--use-fake-ui-for-media-stream",
)


class Chromium:
    name = "chromium"
    can_record = True
    can_change_colours = True

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def use_colours(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def narrow(self, width: int, height: int = 740, pixels: float = 3) -> None:
        """Emulates a telephone with a touch screen. pixels: of the screen, for each CSS pixel."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": pixels, "mobile": True}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 5})

    def widen(self) -> None:
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def tap(self, x: float, y: float) -> None:
        """Taps with a finger, after narrow()."""
        for kind, points in (("touchStart", [{"x": x, "y": y}]), ("touchEnd", [])):
            self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def complaints(self) -> list[str]:
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        messages = [entry["message"] for entry in entries if entry["level"] == "SEVERE"]
        return [message for message in messages if "Failed to load resource" not in message or "/page/" in message]

    def screenshot(self) -> bytes:
        """A PNG of the whole page."""
        answer = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True})
        return base64.b64decode(answer["data"])


def missing() -> str:
    """What this machine lacks to run it; "" if nothing."""
    return lacking("chromium", "chromedriver", packages="chromium chromium-driver")


@contextmanager
def opened(width: int = 1180, height: int = 900) -> Iterator[Chromium]:
    """A browser with an empty profile. width, height: of its window, in pixels."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for flag in (*_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            yield Chromium(driver)
        finally:
            driver.quit()
