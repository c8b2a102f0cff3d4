"""Runs beside each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fsljax import compare
from fsljax.errors import UserError
from fsljax.evaluation.paired import paired_bootstrap
from fsljax.storage.json_files import write_json


def write_run(
    folder: Path,
    outcomes: dict[str, np.ndarray],
    *,
    images: str = "a",
    seed: int = 0,
    kept: bool = True,
    more: dict[str, dict[str, float]] | None = None,
) -> Path:
    """The results of a run with such outcomes."""
    folder.mkdir()
    test = {
        name: {"accuracy": float(values.mean()), "ci95": 0.02, "examples": len(values)}
        for name, values in outcomes.items()
        if not name.endswith(".episodes")
    }
    results = {
        "config": "c",
        "step": 5,
        "seed": seed,
        "model": "m",
        "images": images,
        "test": test | (more or {}),
    }
    write_json(folder / "results.json", results)
    if kept:
        np.savez(folder / "correct.npz", allow_pickle=False, **outcomes)
    return folder


@pytest.fixture
def right() -> np.ndarray:
    return np.random.default_rng(0).random((3, 200)) < np.array([[0.7], [0.8], [0.6]])


def test_runs_on_the_same_images_are_paired_with_the_first(tmp_path: Path, right: np.ndarray):
    folders = [write_run(tmp_path / str(seed), {"softmax": row}, seed=seed) for seed, row in enumerate(right)]
    rows, notes = compare.compare(folders)
    assert notes == []
    assert [row.seed for row in rows] == [0, 1, 2] and rows[0].difference is None
    for row, of_run in zip(rows[1:], right[1:], strict=True):
        assert (row.difference, row.lower, row.upper) == paired_bootstrap(of_run, right[0])
        assert row.paired and row.count == 200
    text = compare.as_text(rows)
    assert len(text.splitlines()) == 5 and text.count(" paired") == 2 and "unpaired" not in text


@pytest.mark.parametrize(
    ("difference", "reason"),
    [
        ({"images": "b"}, "they were tested on different images"),
        ({"kept": False}, "has no per-example results, so evaluate it again"),
        ({"episodes": "y"}, "they were tested in different episodes"),
        ({"count": 100}, "they were tested on different numbers of examples"),
        ({"changed": True}, "has no per-example results, so evaluate it again"),
    ],
)
def test_what_cannot_be_paired_is_told_and_has_unpaired_intervals(
    tmp_path: Path, right: np.ndarray, difference: dict, reason: str
):
    def outcomes(values: np.ndarray, digest: str) -> dict[str, np.ndarray]:
        return {"5way_1shot": values.astype(np.float64), "5way_1shot.episodes": np.array(digest)}

    first = write_run(tmp_path / "first", outcomes(right[0], "x"))
    digest, count = difference.pop("episodes", "x"), difference.pop("count", 200)
    changed = difference.pop("changed", False)
    other = write_run(tmp_path / "other", outcomes(right[1][:count], digest), **difference)
    if changed:  # outcomes of another evaluation than the results
        np.savez(other / "correct.npz", allow_pickle=False, **outcomes(right[2], "x"))
    rows, notes = compare.compare([first, other])
    assert len(notes) == 1 and notes[0].endswith(f"{reason}.")
    row = rows[1]
    assert row.paired is False
    assert row.upper - row.lower == pytest.approx(2 * np.hypot(0.02, 0.02))
    assert "unpaired" in compare.as_text(rows)


def test_settings_that_all_share_are_compared_else_the_first_of_each(tmp_path: Path, right: np.ndarray):
    both = write_run(tmp_path / "both", {"softmax": right[0], "nearest_cluster": right[1]})
    one = write_run(tmp_path / "one", {"nearest_cluster": right[2]})
    other = write_run(tmp_path / "other", {"softmax": right[1]})
    assert [row.setting for row in compare.compare([both, one])[0]] == ["nearest_cluster"] * 2
    rows, _ = compare.compare([one, other])
    assert [row.setting for row in rows] == ["nearest_cluster", "softmax"] and rows[1].paired
    with pytest.raises(UserError, match="one has no setting 'softmax'; it has nearest_cluster"):
        compare.compare([both, one], ["softmax"])


def test_a_figure_without_examples_is_shown_by_its_own_interval(tmp_path: Path):
    detection = {"5way_1shot_ft0": {"ap50_pooled": 0.4, "ap50_pooled_ci95": 0.03, "episodes": 500}}
    folders = [write_run(tmp_path / name, {}, more=detection) for name in "ab"]
    rows, notes = compare.compare(folders)
    assert rows[1].metric == "ap50_pooled" and rows[1].paired is False
    assert "AP50, pooled is not measured per example" in notes[0]


@pytest.mark.parametrize("form", ["--json", "--csv", ""])
def test_the_command_prints_every_form(tmp_path: Path, right: np.ndarray, form: str, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, row in enumerate(right[:2]):
        write_run(tmp_path / f"run{seed}", {"softmax": row}, seed=seed)
    assert compare.run(["run0", *([form] if form else []), "run1"]) == 0
    printed = capsys.readouterr().out
    if form == "--json":
        first, second = json.loads(printed)
        assert first["difference"] is None and second["paired"] is True and second["run"] == "run1"
    elif form == "--csv":
        assert printed.splitlines()[0].startswith("run,config,seed,step,setting,metric,value,ci95,count,diff")
        assert len(printed.splitlines()) == 3
    else:
        assert "difference from run0, points" in printed


def test_what_is_no_run_is_told_in_a_sentence(tmp_path: Path, right: np.ndarray):
    run = write_run(tmp_path / "run", {"softmax": right[0]})
    with pytest.raises(UserError, match=r"There are no results in .*nowhere: .*fsljax evaluate --workdir="):
        compare.compare([run, tmp_path / "nowhere"])
    with pytest.raises(UserError, match="A run is given twice"):
        compare.compare([run, run])
    (run / "correct.npz").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"correct\.npz is damaged"):
        compare.compare([run])
