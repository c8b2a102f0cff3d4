"""README and documentation: their length, their links, and that every page is listed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .pages import DOCS, PAGES, ROOT, anchors, links, name

README = (ROOT / "README.md").read_text()


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150
    assert len(README.split()) <= 900
    assert len(re.findall(r"^\|(?:\s*:?-+:?\s*\|)+$", README, re.MULTILINE)) <= 3


def test_the_first_two_screens_lead_to_ones_own_photographs():
    start = "\n".join(README.splitlines()[:60])
    assert "pip install -e . && python launch.py --config=configs/quickstart.py\n" in start
    assert "pip install -e '.[test]' && pytest\n" in start
    assert "pip install -e '.[pretrained]'" in start
    assert "python launch.py --config=configs/folder.py --config.data.path=DIR\n" in start


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path):
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert page.parent == ROOT or file.is_relative_to(DOCS), f"{target} is no page of the site"
        if anchor:
            on_github, on_site = anchors(file)
            assert anchor in on_github, f"{target} on GitHub"
            assert anchor in on_site, f"{target} on the site"


def test_every_page_has_a_place_in_the_navigation():
    listed = re.findall(r"^ +- (?:[^:#\n]+: )?([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = [*DOCS.rglob("*.md"), *(file.with_suffix(".md") for file in DOCS.rglob("*.ipynb"))]
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in pages)


def test_a_page_has_one_title():
    for page in DOCS.rglob("*.md"):
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1, name(page)
        assert text.startswith("# "), name(page)


def test_the_program_names_pages_that_exist():
    named = set()
    for file in [*(ROOT / "fsljax").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        named |= set(re.findall(r"docs/[\w/]+\.md", file.read_text()))
    assert named
    assert [page for page in named if not (ROOT / page).is_file()] == []


def test_the_citation_has_the_three_papers():
    text = (ROOT / "CITATION.cff").read_text()
    for paper in ("1703.05175", "1511.05939", "1806.04728"):
        assert f"https://arxiv.org/abs/{paper}" in text
        assert paper in README
