"""WebKit, the engine of Safari, in GTK's MiniBrowser on a virtual screen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Remote, WebKitGTKOptions
from selenium.webdriver.remote.client_config import ClientConfig
from selenium.webdriver.remote.file_detector import UselessFileDetector
from selenium.webdriver.remote.remote_connection import RemoteConnection
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.webkitgtk.service import Service

from tests.support.door.browsers.processes import lacking, screen

_FLAGS = ("--automation", "--autoplay-policy=deny", "--media-playback-requires-user-gesture=true")


class WebKit:
    name = "webkit"
    can_record = False  # it asks the user for permission
    can_change_colours = False

    def __init__(self, driver: WebDriver, width: int, height: int) -> None:
        self.driver = driver
        self._size = (width, height)

    def use_colours(self, scheme: str) -> None:
        raise NotImplementedError("It takes them from GTK's theme when it starts.")

    def narrow(self, width: int) -> None:
        self.driver.set_window_size(width, 740)

    def widen(self) -> None:
        self.driver.set_window_size(*self._size)

    def complaints(self) -> list[str]:
        return []  # `Page.faults` gets them all from the page itself


def _mini_browser() -> str:
    """Its path in Debian; "" if it is not installed."""
    found = sorted(Path("/usr/lib").glob("*/webkit2gtk-4.1/MiniBrowser"))
    return str(found[0]) if found else ""


def missing() -> str:
    """What this machine lacks to run it; "" if nothing."""
    packages = "webkit2gtk-driver gstreamer1.0-plugins-good gstreamer1.0-libav xvfb"
    return lacking("WebKitWebDriver", "Xvfb", _mini_browser() or "MiniBrowser", packages=packages)


@contextmanager
def opened(width: int = 1180, height: int = 900) -> Iterator[WebKit]:
    """A browser. width, height: of its window, in pixels."""
    with screen(width + 40, height + 40) as environment:
        options = WebKitGTKOptions()
        options.binary_location = _mini_browser()
        for flag in _FLAGS:
            options.add_argument(flag)
        service = Service(shutil.which("WebKitWebDriver"), env={**os.environ, **environment, "GDK_BACKEND": "x11"})
        service.start()
        try:
            connection = RemoteConnection(client_config=ClientConfig(remote_server_addr=service.service_url))
            driver = Remote(connection, options=options, file_detector=UselessFileDetector())
            driver.set_window_size(width, height)
            yield WebKit(driver, width, height)
            driver.quit()
        finally:
            service.stop()
