"""Training curves."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from fsljax.reporting.curves import MAX_POINTS, decimate, draw, panels


def long_history(rows: int) -> list[dict[str, float]]:
    return [{"step": s, "train/loss": 1 / s, "learning_rate": 1e-3} for s in range(1, rows + 1)]


def test_metrics_share_a_panel_by_what_follows_their_prefix():
    history = [
        {
            "step": 10,
            "steps_per_second": 2.0,
            "learning_rate": 1e-3,
            "train/extra": 1.0,
            "train/accuracy": 0.5,
        },
        {"step": 10, "train/loss": 1.0},
        {"step": 20, "train/loss": 0.5},
        {"step": 20, "validation/loss": 0.75},
    ]
    drawn = panels(history)
    assert [p.metric for p in drawn] == ["loss", "accuracy", "extra", "learning_rate", "steps_per_second"]
    loss = drawn[0]
    assert [curve.name for curve in loss.curves] == ["train", "validation"]
    np.testing.assert_array_equal(loss.curves[0].steps, [10, 20])
    np.testing.assert_array_equal(loss.curves[0].values, [1.0, 0.5])
    assert loss.curves[1].last == 0.75
    assert [p.title for p in drawn[:3]] == ["loss", "accuracy, %", "extra"]


def test_long_curves_keep_their_means():
    steps, values = np.arange(10_003.0), np.random.default_rng(0).normal(size=10_003)
    fewer_steps, fewer = decimate(steps, values)
    assert len(fewer) <= MAX_POINTS
    sizes = np.full(len(fewer), 11)
    sizes[-1] = 10_003 - 11 * (len(fewer) - 1)
    assert np.average(fewer, weights=sizes) == pytest.approx(values.mean())
    assert np.average(fewer_steps, weights=sizes) == pytest.approx(steps.mean())


def test_figures_that_are_not_finite_leave_a_gap():
    values = np.array([1.0, np.inf, np.nan, np.nan, 2.0, 4.0])
    _, fewer = decimate(np.arange(6.0), values, max_points=3)
    np.testing.assert_array_equal(fewer, [1.0, np.nan, 3.0])


@pytest.mark.parametrize("rows", [1, 2, 11, 61, 5000])
def test_drawings_of_few_and_many_points_are_small_wellformed_svg(rows: int):
    for panel in panels(long_history(rows)):
        svg = draw(panel)
        root = ElementTree.fromstring(re.sub(r"xlink:", "", svg))
        assert root.tag == "svg"
        assert len(svg) < 100_000
        assert root.get("viewBox")
        assert "var(--series-1)" in svg
        assert not re.search(r"#0[1-3]0[1-3]0[1-4]", svg)


def test_one_point_is_seen_and_has_one_step_under_it():
    svg = draw(panels([{"step": 1000, "train/loss": 0.5}])[0])
    assert "<use" in svg
    assert svg.count(">1,000<") == 1


def test_gaps_and_figures_that_are_not_numbers_are_drawn():
    history = [{"step": s, "train/loss": float("nan") if s % 3 else 1.0 * s} for s in range(1, 40)]
    assert "var(--series-1)" in draw(panels(history)[0])
    assert panels([{"step": 1, "train/loss": float("nan")}]) == []


def test_drawings_on_one_page_have_ids_of_their_own():
    ids = [re.findall(r'\bid="([^"]+)"', draw(panel)) for panel in panels(long_history(20))]
    together = [name for names in ids for name in names]
    assert len(together) == len(set(together)) > 0
    references = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', "".join(map(draw, panels(long_history(20)))))
    assert {a or b for a, b in references} <= set(together)


def test_wide_ranges_are_logarithmic():
    falling = [{"step": s, "train/loss": 10.0 ** -(s / 10)} for s in range(60)]
    assert "10^{" in re.sub(r"<!--(.*?)-->", r"\1", draw(panels(falling)[0]))
