"""The browser's example of docs/callers/websocket.md, on a page of an origin that the door names, or does not."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser.conftest import ThreadedDoor, threaded_door
from tests.support.door.browsers.page import WAIT_S, Browser
from tests.support.door.page_examples import REPOSITORY, blocks
from tests.support.fake_stages import FRAME_SAMPLES

(EXAMPLE,) = blocks(REPOSITORY / "docs" / "callers" / "websocket.md", "js")
KEEP_LINES = "window.lines = []; console.log = (...words) => window.lines.push(words.join(' '));\n"


class Site:
    """A page of another origin than the door's, which runs the example."""

    def __init__(self, port: int) -> None:
        self.origin = f"http://127.0.0.1:{port}"
        self.page = b""


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(served.page)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Site(server.server_port)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def example_at(door: ThreadedDoor) -> str:
    return KEEP_LINES + EXAMPLE.replace("127.0.0.1:8000", door.url.removeprefix("http://"))


def printed(browser: Browser) -> str:
    first = "return window.lines?.[0]"
    return str(WebDriverWait(browser.driver, WAIT_S, 0.05).until(lambda driver: driver.execute_script(first)))


@pytest.mark.parametrize("is_named", [True, False])
def test_the_websocket_example_speaks_on_allowed_origins_only(browser: Browser, site: Site, is_named: bool) -> None:
    with threaded_door(cors_origins=site.origin if is_named else "") as door:
        site.page = f"<!doctype html><title>Example</title><script>{example_at(door)}</script>".encode()
        browser.driver.get(site.origin)
        samples = door.engine.frame_count * FRAME_SAMPLES if is_named else 0
        assert printed(browser) == f"{samples} samples"
        browser.driver.get("about:blank")
