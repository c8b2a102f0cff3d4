"""The tables of speed are those of benchmarks/results.json."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

ROW = {
    "row": "a step",
    "amount": 0,
    "unit": "",
    "sides": [
        {"name": "fsljax", "median": 0.1, "least": 0.09, "most": 0.12},
        {"name": "PyTorch nchw", "median": 0.2, "least": 0.2, "most": 0.2, "ratio": 2.0},
        {"name": "PyTorch channels_last", "median": 0.09, "least": 0.09, "most": 0.1, "ratio": 0.9},
        {"name": "PyTorch nchw, freed memory kept", "median": 0.15, "least": 0.1, "most": 0.2, "ratio": 1.5},
    ],
}
SPEED = {**ROW, "row": "embedding", "amount": 1000, "unit": "images/s", "sides": ROW["sides"][:1]}


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("tables")


def test_a_peer_that_is_ahead_stands_in_bold_and_the_best_of_a_library_counts(tables: Any):
    assert tables.cells(ROW, bold="**") == [
        "a step", "100 ms", "90.0 ms – 120 ms", "PyTorch **0.90×**, PyTorch, tuned 1.50×",
    ]  # fmt: skip
    assert tables.cells(SPEED) == ["embedding", "10,000 images/s", "8,333 images/s – 11,111 images/s", "–"]


def test_marked_tables_are_filled_and_nothing_else_changes(tables: Any):
    page = "before\n<!-- speed: a st; embed -->\nold\n<!-- end -->\nafter\n"
    filled = tables.filled(page, {"rows": [SPEED, ROW]})
    assert filled.startswith("before\n<!-- speed: a st; embed -->\n\n| work | fsljax |")
    assert filled.endswith("<!-- end -->\nafter\n")
    assert "old" not in filled
    assert filled.index("a step") < filled.index("embedding")
    assert tables.filled(filled, {"rows": [SPEED, ROW]}) == filled
    with pytest.raises(ValueError, match=r"No row of results\.json begins with 'a st'"):
        tables.filled(page, {"rows": [SPEED]})


def test_the_documentation_shows_the_results_as_they_were_measured(tables: Any):
    if not tables.RESULTS.exists():
        pytest.skip("nothing was measured yet: python benchmarks/all.py")
    results = json.loads(tables.RESULTS.read_text())
    for name in tables.PAGES:
        text = (ROOT / name).read_text()
        assert tables.filled(text, results) == text, f"{name}: python benchmarks/tables.py"
