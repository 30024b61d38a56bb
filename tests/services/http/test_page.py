"""The page's files: what is served, what they may load, and that they name no other host. tests/browser runs them."""

from __future__ import annotations

import re

import pytest

from services.http.endpoints.page import CONTENT_TYPES, FOLDER
from tests.support.door.fake_door import FakeDoor, fake_door

FILES = sorted(path.name for path in FOLDER.iterdir())


async def test_page_and_all_its_files_are_served(door: FakeDoor) -> None:
    index = await door.client.get("/")
    assert index.status_code == 200 and index.headers["content-type"] == "text/html; charset=utf-8"
    assert len(FILES) > 10
    for name in FILES:
        answer = await door.client.get(f"/page/{name}")
        assert answer.content == (FOLDER / name).read_bytes()
        assert answer.headers["content-type"] == CONTENT_TYPES[f".{name.rpartition('.')[2]}"]
        unchanged = await door.client.get(f"/page/{name}", headers={"if-none-match": answer.headers["etag"]})
        assert (unchanged.status_code, unchanged.content) == (304, b"")


async def test_policy_allows_the_servers_own_files_alone(door: FakeDoor) -> None:
    for path in ("/", "/page/main.js"):
        headers = (await door.client.get(path)).headers
        parts = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert parts.pop("default-src") == "'none'"
        assert {value for name, value in parts.items() if name != "media-src"} == {"'self'", "'none'"}
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["nothing.js", "..%2fapp.py", "..%2f..%2f__main__.py", "%2fetc%2fpasswd"])
async def test_no_other_file_is_served(door: FakeDoor, name: str) -> None:
    answer = await door.client.get(f"/page/{name}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("name", FILES)
def test_files_name_no_other_host_and_nothing_inline(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"(?:https?:)?//[a-z0-9-]+\.[a-z]{2,}", text)
    assert "innerHTML" not in text and "eval(" not in text
    if name.endswith(".html"):
        assert not re.search(r"\sstyle=|\son[a-z]+=|<style", text)
        scripts = re.findall(r"<script([^>]*)>([^<]*)</script>", text)
        assert [content for _, content in scripts] == [""]
    assert len(text.splitlines()) < 300


def test_every_import_and_link_is_a_file_of_the_page() -> None:
    for name in FILES:
        text = (FOLDER / name).read_text(encoding="utf-8")
        wanted = re.findall(r'from "\./([\w.]+)"', text) + re.findall(r'(?:href|src)="page/([\w.]+)"', text)
        assert set(wanted) <= set(FILES), name


def test_every_id_that_scripts_use_is_in_the_page() -> None:
    html = (FOLDER / "index.html").read_text(encoding="utf-8")
    ids = set(re.findall(r' id="([\w-]+)"', html))
    for path in FOLDER.glob("*.js"):
        used = set(re.findall(r'element\("([\w-]+)"\)', path.read_text(encoding="utf-8")))
        assert used <= ids, path.name
    for names in re.findall(r'(?:for|aria-controls|aria-labelledby|aria-describedby)="([^"]+)"', html):
        assert set(names.split()) <= ids


async def test_page_can_be_off() -> None:
    async with fake_door(page=False) as door:
        assert (await door.client.get("/")).status_code == 404
        assert (await door.client.get("/page/main.js")).status_code == 404
        assert (await door.client.get("/readyz")).status_code == 200
