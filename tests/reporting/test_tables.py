"""Results as text."""

from __future__ import annotations

import math

import pytest

from fsljax.reporting.tables import (
    MISSING,
    headline,
    make_table,
    metric_title,
    per_cent,
    results_table,
    setting_title,
)

RESULTS = {
    "config": "protonet_1_5",
    "step": 12000,
    "seed": 0,
    "test": {
        "5way_1shot": {"accuracy": 0.98914, "ci95": 0.00049, "episodes": 10000},
        "20way_5shot": {"accuracy": 0.9, "ci95": 0.01, "episodes": 600},
        "5way_1shot_transductive": {"accuracy": 0.9931, "ci95": 0.0004, "episodes": 10000},
    },
}
PUBLISHED = {"5way_1shot": {"Snell et al. 2017": 0.988, "PyTorch": 0.9885}, "20way_5shot": {"PyTorch": 0.989}}


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("5way_1shot", "5-way 1-shot"),
        ("20way_5shot_transductive", "20-way 5-shot, transductive"),
        ("nearest_cluster", "nearest cluster"),
        ("nearest_neighbour", "nearest neighbour"),
        ("hierarchy_recovery", "hierarchy recovery"),
    ],
)
def test_setting_titles(name: str, title: str):
    assert setting_title(name) == title


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("recall_at_1", "recall@1"),
        ("ap50_pooled", "AP50, pooled"),
        ("map_at_r", "MAP@R"),
        ("nmi", "NMI"),
        ("top_error", "top error"),
    ],
)
def test_metric_titles(name: str, title: str):
    assert metric_title(name) == title


@pytest.mark.parametrize(
    ("value", "half_width", "text"),
    [
        (0.98914, 0.00049, "98.91 ± 0.05"),
        (1.0, None, "100.00"),
        (0.5, math.nan, "50.00"),
        (None, 0.1, MISSING),
        (math.nan, None, MISSING),
    ],
)
def test_fractions_as_per_cent(value: float | None, half_width: float | None, text: str):
    assert per_cent(value, half_width) == text


def test_published_figures_stand_beside_ours():
    table = make_table(RESULTS, PUBLISHED)
    assert table.header == ["setting", "accuracy, %", "episodes", "Snell et al. 2017", "PyTorch"]
    assert table.header[table.first_published :] == ["Snell et al. 2017", "PyTorch"]
    assert table.rows == [
        ["5-way 1-shot", "98.91 ± 0.05", "10,000", "98.80", "98.85"],
        ["20-way 5-shot", "90.00 ± 1.00", "600", MISSING, "98.90"],
        ["5-way 1-shot, transductive", "99.31 ± 0.04", "10,000", MISSING, MISSING],
    ]


def test_several_metrics_have_their_own_intervals():
    test = {"novel": {"map50": 0.5, "map50_ci95": 0.02, "accuracy": 0.25, "examples": 1234}}
    table = make_table({"test": test})
    assert table.header == ["setting", "accuracy, %", "mAP50, %", "examples"]
    assert table.rows == [["novel", "25.00", "50.00 ± 2.00", "1,234"]]
    assert table.first_published == len(table.header)


def test_figures_of_a_classification_stand_beside_those_of_episodes():
    retrieval = {
        "recall_at_1": 0.9, "recall_at_1_ci95": 0.02, "recall_at_8": 0.99, "recall_at_8_ci95": 0.01,
        "map_at_r": 0.5, "nmi": 0.75, "nmi_ci95": 0.02,
    }  # fmt: skip
    test = {
        "nearest_cluster": {"accuracy": 0.91, "ci95": 0.01, "examples": 4109},
        "nearest_neighbour": {"accuracy": 0.9, "ci95": 0.02, "examples": 4109, **retrieval},
        "5way_1shot": {"accuracy": 0.98, "ci95": 0.001, "episodes": 1000},
    }  # fmt: skip
    table = make_table({"test": test})
    assert table.header == [
        "setting", "accuracy, %", "recall@1, %", "recall@8, %", "MAP@R, %", "NMI, %", "episodes", "examples"
    ]  # fmt: skip
    nothing, retrieved = [MISSING] * 4, ["90.00 ± 2.00", "99.00 ± 1.00", "50.00", "75.00 ± 2.00"]
    assert table.rows == [
        ["nearest cluster", "91.00 ± 1.00", *nothing, MISSING, "4,109"],
        ["nearest neighbour", "90.00 ± 2.00", *retrieved, MISSING, "4,109"],
        ["5-way 1-shot", "98.00 ± 0.10", *nothing, "1,000", MISSING],
    ]  # fmt: skip


def test_a_headline_says_what_was_never_seen():
    assert headline(RESULTS).endswith("5-way 1-shot on classes never seen in training")
    test = {"nearest_cluster": {"accuracy": 0.91, "ci95": 0.01, "examples": 4109}}
    line = "91.00 % ± 1.00 nearest cluster on images never seen in training"
    assert headline({"test": test}) == line
    assert headline({"test": {**RESULTS["test"], **test}}, "nearest_cluster") == line


def test_terminal_columns_are_aligned():
    lines = results_table(RESULTS, PUBLISHED).splitlines()
    assert len(lines) == 5
    assert lines[2].split() == ["5-way", "1-shot", "98.91", "±", "0.05", "10,000", "98.80", "98.85"]
    assert "5-way 1-shot, transductive" in lines[4]
    assert {len(line) for line in lines} == {len(lines[0])}
    ends = [
        line.index(figure) + len(figure)
        for line, figure in zip(lines[2:], ("0.05", "1.00", "0.04"), strict=True)
    ]
    assert len(set(ends)) == 1


def test_headline_is_the_first_setting_unless_told():
    assert headline(RESULTS) == "98.91 % ± 0.05 5-way 1-shot on classes never seen in training"
    assert headline(RESULTS, "20way_5shot", "on toys") == "90.00 % ± 1.00 20-way 5-shot on toys"
    assert headline({"test": {"a_b": {"map50": 0.5}}}, remark="") == "50.00 % mAP50, a b"


def test_without_results():
    assert headline({}) == "No test results yet"
    assert make_table({}).rows == []
    assert results_table({}).startswith("setting")
