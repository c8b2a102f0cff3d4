"""Methods beside each other, as text."""

from __future__ import annotations

import numpy as np

from fsljax.reporting.comparison import Compared, comparison, detection_comparison


def test_the_table_tells_errors_and_paired_differences():
    first = np.arange(1000) % 4 > 0  # 25 % wrong
    second = np.arange(1000) % 5 > 0  # 20 % wrong
    text = comparison(
        [
            Compared("first", "softmax", np.stack([first] * 3)),
            Compared("second", "softmax", np.stack([second] * 3)),
        ]
    )
    line = next(line for line in text.splitlines() if line.startswith("first"))
    assert "25.00 ±" in line
    assert "25.00 25.00 25.00" in line
    assert "+5.00 (" in line


def test_a_figure_of_another_kind_is_shown_beside():
    right = np.arange(10)[None] > 2
    text = comparison(
        [Compared("one", "soft_posterior", right, 0.5), Compared("three", "soft_posterior", right, 0.75)],
        "purity",
    )
    header, _, one, three = text.splitlines()
    at = header.index("purity, %")
    assert one[at:].startswith("50.00") and three[at:].startswith("75.00")


def test_a_table_of_detection_shows_every_rule():
    figures = {
        "ap50_pooled": 0.6, "ap50_pooled_ci95": 0.012, "map50": 0.65, "map50_ci95": 0.01,
        "ap50_pooled_below": 0.2, "ap50_pooled_below_ci95": 0.005, "map50_below": 0.1,
        "map50_below_ci95": 0.02,
    }  # fmt: skip
    settings = [f"5way_1shot_ft0{rule}" for rule in ("", "_distance", "_vanilla", "_ceiling", "_distractors")]
    text = detection_comparison(dict.fromkeys(settings, figures), shots=(1,), epochs=(0, 5))
    pooled, mean = text.split("\n\n")
    header, _, first, second = pooled.splitlines()
    assert header.split("  ")[0] == "ap50_pooled, %"
    assert first.startswith("1-shot ") and first.count("60.0 ± 1.2") == 5 and first.count("20.0 ± 0.5") == 2
    assert second.startswith("1-shot, 5 epochs") and "±" not in second
    assert mean.splitlines()[2].count("10.0 ± 2.0") == 2
