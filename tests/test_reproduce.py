"""Tables of the README made anew."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fsljax import reproduce

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", reproduce.TABLES)
def test_every_row_of_a_table_has_its_config(name: str):
    table = reproduce.TABLES[name]
    assert len({row.name for row in table.rows}) == len(table.rows)
    for row in table.rows:
        while row:
            assert (ROOT / "configs" / f"{row.config}.py").is_file()
            row = row.start


def test_the_table_tells_errors_and_paired_differences():
    table = reproduce.Table((reproduce.Row("first", "c", "softmax"), reproduce.Row("second", "c", "softmax")))
    first = np.arange(1000) % 4 > 0  # 25 % wrong
    second = np.arange(1000) % 5 > 0  # 20 % wrong
    text = reproduce._text(table, {"first": np.stack([first] * 3), "second": np.stack([second] * 3)})
    line = next(line for line in text.splitlines() if line.startswith("first"))
    assert "25.00 ±" in line
    assert "25.00 25.00 25.00" in line
    assert "+5.00 (" in line


def test_a_figure_of_another_kind_is_shown_beside():
    rows = (reproduce.Row("one", "c", "soft_posterior"), reproduce.Row("three", "c", "soft_posterior"))
    table = reproduce.Table(rows, beside=("nearest_representative", "purity"))
    right = np.arange(10)[None] > 2
    text = reproduce._text(table, {"one": right, "three": right}, {"one": 0.5, "three": 0.75})
    header, _, one, three = text.splitlines()
    at = header.index("purity, %")
    assert one[at:].startswith("50.00") and three[at:].startswith("75.00")


def test_what_cannot_be_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    assert reproduce.main(["imagenet"]) == 2
    assert "There is no table 'imagenet'" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert reproduce.main(["flowers"]) == 2
    assert "There is no launch.py here" in capsys.readouterr().err
    assert reproduce.main([]) == 2
    assert "tables:" in capsys.readouterr().out


@pytest.mark.slow
def test_a_table_is_run_once_and_shown_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys):
    rows = tuple(
        reproduce.Row(name, "magnet_glyphs_2", "nearest_cluster", (f"--config.train.steps={steps}",))
        for name, steps in (("short", 2), ("long", 60))
    )
    steps = ("--config.train.steps=2",)
    start = reproduce.Row("softmax", "softmax_glyphs_2", "softmax", steps)
    rows = (reproduce.Row("after softmax", "magnet_glyphs_2", "nearest_cluster", steps, start), *rows)
    monkeypatch.setitem(reproduce.TABLES, "tiny", reproduce.Table(rows, seeds=(0,)))
    monkeypatch.setattr(reproduce, "_RUNS", tmp_path)
    monkeypatch.chdir(ROOT)
    assert reproduce.main(["tiny", "--config.data.max_classes=20"]) == 0
    shown = capsys.readouterr()
    assert "short, seed 0" in shown.err
    assert "softmax, seed 0" in shown.err
    assert reproduce.main(["tiny", "--config.data.max_classes=20"]) == 0
    again = capsys.readouterr()
    assert again.out == shown.out
    assert again.err == ""


def test_a_table_of_detection_shows_every_rule(tmp_path: Path):
    table = reproduce.DetectionTable("c", shots=(1,), epochs=(0, 5))
    figures = {
        "ap50_pooled": 0.6, "ap50_pooled_ci95": 0.012, "map50": 0.65, "map50_ci95": 0.01,
        "ap50_pooled_below": 0.2, "ap50_pooled_below_ci95": 0.005, "map50_below": 0.1,
        "map50_below_ci95": 0.02,
    }  # fmt: skip
    settings = [f"5way_1shot_ft0{rule}" for rule in ("", "_distance", "_vanilla", "_ceiling", "_distractors")]
    (tmp_path / "results.json").write_text(json.dumps({"test": dict.fromkeys(settings, figures)}))
    pooled, mean = reproduce._detection_text(table, tmp_path).split("\n\n")
    header, _, first, second = pooled.splitlines()
    assert header.split("  ")[0] == "ap50_pooled, %"
    assert first.startswith("1-shot ") and first.count("60.0 ± 1.2") == 5 and first.count("20.0 ± 0.5") == 2
    assert second.startswith("1-shot, 5 epochs") and "±" not in second
    assert mean.splitlines()[2].count("10.0 ± 2.0") == 2
