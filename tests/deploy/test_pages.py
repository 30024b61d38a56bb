"""README, docs and decisions: links lead somewhere, flags and paths are real, pages keep to their length."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.all_in_one.settings import AllInOneSettings
from services.common.settings import StageSettings, setting_names

ROOT = Path(__file__).parents[2]
SKIPPED = {".pytest_cache", ".venv", "node_modules", "build", "gen"}
PAGES = sorted(page for page in ROOT.rglob("*.md") if not SKIPPED & set(page.relative_to(ROOT).parts))
STATUS = ROOT / "docs" / "status.md"
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_have_a_target(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", [STATUS, ROOT / "docs" / "measured.md", *DECISIONS], ids=lambda page: page.name)
def test_flags_are_flags_of_a_stage(page: Path, settings_classes: Mapping[str, type[StageSettings]]) -> None:
    classes: list[type[StageSettings]] = [*settings_classes.values(), AllInOneSettings]
    known = {name.flag for settings in classes for name in setting_names(settings)} | {"--token-file"}
    assert set(re.findall(r"`(--[a-z0-9-]+)", page.read_text(encoding="utf-8"))) <= known


def test_folders_of_the_map_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (tree,) = re.findall(r"^```\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    top, found = "", 0
    for line in tree.splitlines():
        indented = line.startswith("  ")
        for name in re.findall(r"[\w-]+/(?=\s|$)", line[:21]):
            folder = ROOT / top / name if indented else ROOT / name
            assert folder.is_dir(), folder
            found += 1
            top = top if indented else name
    assert found > 20


def test_every_package_is_on_the_map() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for package in ("csm_engine", "csm_codec", "services", "services/gateway"):
        names = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
        assert names and {name for name in names if f"{name}/" not in page} == set(), package


def test_rows_of_the_status_are_read_at_a_glance() -> None:
    rows = [line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert len(rows) > 40
    assert {row for row in rows if len(re.sub(r"\]\([^)]*\)", "]", row)) > 400} == set()  # without where links lead


def test_readme_fits_two_screens() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 95


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.name)
def test_a_decision_fits_a_page_and_says_why_what_else_and_figures(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    if page.name == "README.md":
        listed = set(re.findall(r"\]\(([\w-]+\.md)\)", text))
        assert listed == {other.name for other in DECISIONS} - {"README.md"}
    else:
        assert "**Decision.**" in text
        for heading in (r"Why( this is exact)?", r"What else was .*", "Figures"):
            assert re.search(rf"^## {heading}$", text, re.MULTILINE), heading
