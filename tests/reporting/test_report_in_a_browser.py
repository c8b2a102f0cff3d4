"""The page at three widths: nothing is cut, names of fields stay whole, and axe finds no serious fault."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from fsljax.reporting.report import write_report
from fsljax.reporting.sections import config_section, environment_section, results_section

CHROMIUM = Path("/usr/bin/chromium")
AXE = os.environ.get("AXE_CORE")  # axe.min.js of the npm package axe-core, where there is one

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    metrics = (
        "ap50_pooled",
        "map50",
        "map",
        "recall_at_1",
        "map_at_r",
        "nmi",
        "bap",
        "bap50",
        "nap",
        "nap50",
    )
    row = dict.fromkeys(metrics, 0.5) | {f"{name}_ci95": 0.01 for name in metrics} | {"episodes": 500}
    results = {"test": {f"5way_{shot}shot_ft0": row for shot in (1, 5, 10)}}
    path = "/home/someone/annotated/" + "with_a_very_long_name_that_goes_on/" * 3 + "instances.json"
    config = {"name": "wide", "data": {"path": path, "validation_fraction": 0.1}}
    sections = [
        results_section(results),
        config_section(config),
        environment_section({}, command=["x" * 300]),
    ]
    file = tmp_path_factory.mktemp("report") / "report.html"
    write_report(file, title="wide", headline="50 % on new classes", facts={}, sections=sections)
    if AXE is not None:  # which the page's own policy would not let in
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace("default-src 'none'", "default-src *"), encoding="utf-8")
    return file


@pytest.mark.parametrize("width", [1280, 800, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_and_names_stay_whole(report: Path, width: int, scheme: str):
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page: Any = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.goto(report.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        table = "document.querySelector('.scroll')"
        if width == 1280:
            assert page.evaluate(f"{table}.scrollWidth <= {table}.clientWidth")
        heights = page.evaluate(
            "[...document.querySelectorAll('.settings th[scope=row]')].map(th => {"
            "const range = document.createRange(); range.selectNodeContents(th);"
            "return range.getClientRects().length; })"
        )
        assert set(heights) == {1}
        if AXE is not None:
            page.evaluate(Path(AXE).read_text(encoding="utf-8"))
            faults = page.evaluate("axe.run()")["violations"]
            assert [one["id"] for one in faults if one["impact"] in ("serious", "critical")] == []
        browser.close()
