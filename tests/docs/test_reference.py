"""The site: it builds, every public name is in its reference, and it loads nothing from elsewhere."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .pages import DOCS, ROOT

REFERENCE = "\n".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
MODULES = set(re.findall(r"^::: ([\w.]+)$", REFERENCE, re.MULTILINE))


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def names_in(path: Path) -> list[str]:
    """`__all__` of a module, or nothing."""
    text = path.read_text()
    for node in ast.parse(text).body if "\n__all__ = " in text else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def public_names() -> dict[str, list[str]]:
    """What every module but the package itself says is public."""
    files = (ROOT / "fsljax").glob("*/**/*.py"), (ROOT / "fsljax").glob("[!_]*.py")
    found = {module(path): names_in(path) for path in sorted(file for some in files for file in some)}
    return {name: names for name, names in found.items() if names}


def test_the_reference_has_every_module_with_public_names():
    assert "fsljax.losses" in public_names()
    assert set(public_names()) <= MODULES


def test_the_reference_names_modules_that_exist():
    for name in MODULES:  # or one thing in a module
        assert is_module(name) or is_module(name.rpartition(".")[0]), name


def test_the_reference_has_what_the_package_itself_offers():
    offered = [name for name in names_in(ROOT / "fsljax/__init__.py") if not is_module(f"fsljax.{name}")]
    assert [name for name in offered if not any(of.endswith(f".{name}") for of in MODULES)] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for needed in ("material", "mkdocstrings", "latex2mathml", "ziamath", "fontTools"):
        pytest.importorskip(needed)
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={folder}"],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_describes_every_public_name(site: Path):
    pages = "".join(page.read_text() for page in (site / "reference").rglob("*.html"))
    described = set(re.findall(r'id="(fsljax[\w.]+)"', pages))
    wanted = {f"{where}.{name}" for where, names in public_names().items() for name in names}
    assert wanted - described == set()


@pytest.mark.slow
def test_what_a_field_means_is_shown_whole(site: Path):
    assert "the default workdir is runs/&lt;name&gt;" in (site / "reference/config/index.html").read_text()


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site: Path):
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert re.findall(r'<(?:script|img|iframe)[^>]*\bsrc="(?:https?:)?//[^"]*', text) == []
        assert (
            re.findall(r'<link[^>]*rel="(?:stylesheet|preconnect|icon)"[^>]*href="(?:https?:)?//[^"]*', text)
            == []
        )


@pytest.mark.slow
def test_formulas_are_mathml(site: Path):
    for page in (site / "methods").rglob("*.html"):
        text = page.read_text()
        assert "<math" in text
        assert "arithmatex" not in text


@pytest.mark.slow
def test_search_and_sections_have_names_for_those_who_hear_them(site: Path):
    for page in site.rglob("index.html"):
        text = page.read_text()
        assert re.findall(r'<[^>]*role="dialog"(?![^>]*aria-label=)[^>]*>', text) == []
        assert 'role="dialog" aria-label="Search"' in text
        assert re.findall(r'aria-labelledby="__nav_\d', text) == []
        assert {"Tutorials", "How to", "Results"} <= set(re.findall(r'aria-label="([\w ]+)"', text))


@pytest.mark.slow
def test_what_scrolls_can_be_reached_by_keyboard(site: Path):
    assert ".md-typeset__scrollwrap" in (site / "assets/scrolling.js").read_text()
    assert "assets/scrolling.js" in (site / "results/scaling/index.html").read_text()
