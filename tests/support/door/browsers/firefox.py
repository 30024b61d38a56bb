"""Firefox without a window."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.door.browsers.marionette import FirefoxDriver
from tests.support.door.browsers.processes import lacking, loudspeaker, running, wait_for

_PREFERENCES = {
    "marionette.port": "0",  # any; it writes which one to a file
    "media.navigator.streams.fake": "true",  # a microphone that beeps
    "media.navigator.permission.disabled": "true",
    "datareporting.policy.dataSubmissionEnabled": "false",
    "app.normandy.enabled": "false",
    "extensions.getAddons.cache.enabled": "false",
}
_NARROW = "gBrowser.selectedBrowser.style.maxWidth = arguments[0]"  # its windows have at least 450 pixels


class Firefox:
    name = "firefox"
    can_record = True
    can_change_colours = True

    def __init__(self, driver: FirefoxDriver) -> None:
        self.driver = driver

    def use_colours(self, scheme: str) -> None:
        script = "Services.prefs.setIntPref('layout.css.prefers-color-scheme.content-override', arguments[0])"
        self.driver.in_chrome(script, ["dark", "light"].index(scheme))

    def narrow(self, width: int) -> None:
        self.driver.in_chrome(_NARROW, f"{width}px")

    def widen(self) -> None:
        self.driver.in_chrome(_NARROW, "")

    def complaints(self) -> list[str]:
        return []  # `Page.faults` gets them all from the page itself


def missing() -> str:
    """What this machine lacks to run it; "" if nothing."""
    return lacking("firefox-esr", "pulseaudio", packages="firefox-esr pulseaudio")


@contextmanager
def opened(width: int = 1180, height: int = 900) -> Iterator[Firefox]:
    """A browser with an empty profile and a loudspeaker. width, height: of its window, in pixels."""
    with loudspeaker() as environment, _opened(environment, width, height) as browser:
        yield browser


@contextmanager
def opened_without_loudspeaker() -> Iterator[Firefox]:
    with _opened({"PULSE_SERVER": "unix:/nowhere"}, 1180, 900) as browser:
        yield browser


@contextmanager
def _opened(environment: dict[str, str], width: int, height: int) -> Iterator[Firefox]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        lines = [f'user_pref("{name}", {value});\n' for name, value in _PREFERENCES.items()]
        (Path(profile) / "user.js").write_text("".join(lines))
        command = [
            str(shutil.which("firefox-esr")),
            *("--headless", "--marionette", "--remote-allow-system-access", "--no-remote"),
            *("--profile", profile, "--width", str(width), "--height", str(height)),
        ]
        port = Path(profile) / "MarionetteActivePort"
        with running(command, env={**os.environ, "HOME": profile, **environment}):
            wait_for(port)
            driver = FirefoxDriver(int(port.read_text()))
            try:
                yield Firefox(driver)
            finally:
                driver.quit()
