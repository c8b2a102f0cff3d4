"""The pages that users read, and what stands in them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

_FENCE = re.compile(r"^(?P<indent> *)```.*?^(?P=indent)```\s*$", re.MULTILINE | re.DOTALL)
_RUN = re.compile(
    r"^<!-- run(?:: (?P<options>[\w ]+))? -->\n```(?P<language>\w+)\n(?P<code>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


class Example(NamedTuple):
    """A code block that is marked to run, by the line `<!-- run -->` or `<!-- run: slow -->` above it."""

    language: str
    code: str
    slow: bool


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def examples(page: Path) -> list[Example]:
    return [
        Example(found["language"], found["code"], "slow" in (found["options"] or ""))
        for found in _RUN.finditer(page.read_text())
    ]


def prose(page: Path) -> str:
    """The text without code."""
    return re.sub(r"`[^`\n]+`", "``", _FENCE.sub("", page.read_text()))


def links(page: Path) -> Iterator[str]:
    """The targets of links and pictures that lead to the project's own files."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(page: Path) -> tuple[set[str], set[str]]:
    """The names of headings, as GitHub makes them and as MkDocs does."""
    text = _FENCE.sub("", page.read_text())
    headings = [re.sub(r"[`*]", "", found) for found in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
    return {_as_github(heading) for heading in headings}, {_as_mkdocs(heading) for heading in headings}


def _as_github(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _as_mkdocs(heading: str) -> str:
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def commands(page: Path) -> list[str]:
    """What is given to `launch.py` or `fsljax train` in commands that name a config of this repository.

    Without what makes one process of several of them, and without modules that the page has the user write.
    """
    text = page.read_text().replace("\\\n", " ")
    found = re.findall(r"(?:python launch\.py|fsljax train) (--config=[^`#\n|&]+)", text)
    alone = (re.sub(r"--(coordinator|process(es)?|wait)=\S+", "", line).strip() for line in found)
    return [line for line in alone if not re.search("…|mypackage", line) and _config_file(line).is_file()]


def _config_file(line: str) -> Path:
    config = line.split()[0].removeprefix("--config=").partition(":")[0].removeprefix("configs/")
    return ROOT / "configs" / f"{config.removesuffix('.py')}.py"
