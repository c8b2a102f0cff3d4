"""The report as one file."""

from __future__ import annotations

import importlib.resources
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

from fsljax.reporting.report import write_report
from fsljax.reporting.sections import (
    Section,
    config_section,
    curves_section,
    embedding_map_section,
    results_section,
)

ROOT = Path(__file__).parents[2]


def write(path: Path, sections: list[Section], **changes: object) -> str:
    given = {"title": "protonet_1_5", "headline": "98.91 % ± 0.05 5-way 1-shot", "facts": None} | changes
    write_report(path, sections=sections, **given)
    return path.read_text(encoding="utf-8")


def full_sections() -> list[Section]:
    figures = {"accuracy": 0.98914, "ci95": 0.0005, "episodes": 10000}
    generator = np.random.default_rng(0)
    return [
        results_section({"test": {"5way_1shot": figures}}),
        curves_section([{"step": s, "train/loss": 1 / s, "learning_rate": 1e-3} for s in range(1, 200)]),
        embedding_map_section(
            generator.normal(size=(20, 4)), np.repeat([0, 1], 10), ["a", "b"], np.zeros((20, 4, 4, 1))
        ),
        config_section({"name": "x"}),
    ]


def test_needs_nothing_but_itself(tmp_path: Path):
    page = write(tmp_path / "report.html", full_sections())
    links = re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)|@import', page)
    targets = {a or b for a, b in links}
    assert any(target.startswith("data:image/png;base64,") for target in targets)
    assert all(target.startswith(("data:", "#")) for target in targets)
    assert "<script" not in page and "<link" not in page
    anchors = {target[1:] for target in targets if target.startswith("#")}
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert anchors <= set(ids)
    assert len(ids) == len(set(ids))


def test_is_readable_in_light_dark_and_narrow(tmp_path: Path):
    page = write(tmp_path / "report.html", full_sections())
    assert "width=device-width" in page
    assert "prefers-color-scheme: dark" in page
    variables = set(re.findall(r"var\((--[\w-]+)", page)) - {"--depth"}
    light, dark = re.findall(r":root \{(.*?)\}", page, flags=re.DOTALL)
    for scheme in (light, dark):
        assert variables <= set(re.findall(r"(--[\w-]+):", scheme))


@pytest.mark.parametrize(
    ("headline", "figure", "rest"),
    [
        ("98.91 % ± 0.05 5-way 1-shot", "98.91 % ± 0.05", "5-way 1-shot"),
        ("98.91 % 5-way 1-shot", "98.91 %", "5-way 1-shot"),
        ("No test results yet", None, "No test results yet"),
    ],
)
def test_the_figure_of_the_headline_stands_out(tmp_path: Path, headline: str, figure: str | None, rest: str):
    page = write(tmp_path / "report.html", [], headline=headline)
    found = re.search(r'<span class="figure">(.*?)</span>', page)
    assert (found and found[1]) == figure
    assert f">{rest}</span></h1>" in page


def test_facts_titles_and_sentences_are_text(tmp_path: Path):
    section = Section("a < b", "<p>trusted & <b>bold</b></p>", "if a < b")
    page = write(
        tmp_path / "report.html", [section], title="<i>", facts={"steps": 12000, "seed": 12000, "<u>": "<s>"}
    )
    assert "<h2>a &lt; b</h2>" in page
    assert '<p class="before">if a &lt; b</p>' in page
    assert "<p>trusted & <b>bold</b></p>" in page
    assert "<dd>12,000</dd>" in page and "<dd>12000</dd>" in page
    assert not re.search("<[isu]>", page)


def test_an_older_report_is_replaced_whole_or_kept(tmp_path: Path):
    path = tmp_path / "new/report.html"
    first = write(path, [])
    with pytest.raises(UnicodeEncodeError):
        write(path, [Section("bad", "\ud800")])
    assert path.read_text(encoding="utf-8") == first
    assert "second" in write(path, [Section("second", "")])
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_every_template_is_packaged():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    folder = importlib.resources.files("fsljax.reporting")
    others = [f.name for f in folder.iterdir() if f.is_file() and not f.name.endswith((".py", ".pyc"))]
    assert others
    assert all(any(fnmatch(name, pattern) for pattern in patterns["fsljax.reporting"]) for name in others)
