"""`make screenshots`: docs/images from the page before the real stages with the built-in voice.

Its figures are of the machine that it runs on; the first picture is of a run without gaps, if there is one in eight.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from tests.support.door.browsers.chromium import Chromium, missing, opened
from tests.support.door.browsers.page import Page

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "images"
QUALITY = 92  # of 100
TEXTS = ("Where have you been all day?", "I went for a long walk by the sea.")


@contextmanager
def serving(bundle: str) -> Iterator[str]:
    """The HTTP door's URL of an all-in-one server."""
    ports = ["--port=0", "--health-port=0", "--metrics-port=-1", "--http-port=0"]
    command = [sys.executable, "-m", "services.all_in_one", "--bundle", bundle, *ports]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        try:
            for line in server.stdout:
                if found := re.search(r"http://127\.0\.0\.1:\d+(?=/)", line):
                    yield found[0]
                    return
            raise SystemExit("The server has not started.")
        finally:
            server.terminate()


def take_while_it_plays(browser: Chromium, page: Page, scheme: str) -> None:
    page.use_colours(scheme)
    page.click("play")
    page.script("return new Promise((done) => setTimeout(done, 1500))")
    file = FOLDER / f"page-{scheme}.webp"
    with Image.open(io.BytesIO(browser.screenshot())) as image:
        image.convert("RGB").save(file, quality=QUALITY, method=6)
    page.until_quiet()
    print(f"{file.name} has {file.stat().st_size // 1024} KB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="bundles/builtin")
    arguments = parser.parse_args()
    if lacks := missing():
        raise SystemExit(lacks)
    FOLDER.mkdir(exist_ok=True)
    with serving(arguments.bundle) as url, opened(1180, 900) as browser:
        page = Page(browser, url)
        for run in range(8):
            page.click("speak-go")
            page.until(lambda: page.text("outcome"))
            page.until_quiet()
            if run and page.text("stat-gaps") == "0":  # the first one warms the stages
                break
        take_while_it_plays(browser, page, "light")
        page.click("tab-conversation")
        for number, text in enumerate(TEXTS, 1):
            page.write("turn-text", text)
            page.click("turn-go")
            page.until(lambda number=number: len(page.all("#turns li")) == number)  # type: ignore[misc]
            page.until_quiet()
        take_while_it_plays(browser, page, "dark")


if __name__ == "__main__":
    main()
