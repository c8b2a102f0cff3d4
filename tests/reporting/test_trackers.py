"""Weights & Biases and MLflow, the real packages where they are installed, without a network."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fsljax.errors import UserError
from fsljax.reporting import trackers
from fsljax.reporting.trackers import Service, Tracker
from fsljax.training.logs import MetricsLog

CONFIG = {"name": "tiny", "train.steps": 5, "eval.shots": [1, 5]}


def test_tensorboard_needs_no_tracker(tmp_path: Path):
    assert trackers.start("tensorboard", "fsljax", "tiny", tmp_path, CONFIG, new=True) is None


@pytest.mark.parametrize("to", ["wandb", "mlflow"])
def test_a_package_that_is_missing_is_told_in_a_sentence(
    to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, to, None)
    with pytest.raises(
        UserError, match=rf"config.log.to is '{to}', but the package {to} .*: pip install {to}\.$"
    ):
        trackers.start(to, "fsljax", "tiny", tmp_path, CONFIG, new=True)


def test_a_log_hands_its_finite_figures_on_and_a_service_that_fails_costs_a_warning(tmp_path: Path, caplog):
    figures: list[tuple[int, dict[str, float]]] = []

    def log(step: int, given: dict[str, float]) -> None:
        figures.append((step, given))
        if len(figures) == 2:
            raise ConnectionError("no\nroute")

    tracker = Tracker(Service("7", log, lambda: None), "wandb")
    with MetricsLog(tmp_path, tracker=tracker) as written:
        for step in (1, 2, 3):
            written.scalars(step, {"train/loss": 0.5, "x": float("nan")})
    assert figures == [(1, {"train/loss": 0.5}), (2, {"train/loss": 0.5})]
    assert "Weights & Biases receives no more metrics (no route): training continues." in caplog.text
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 3


def track(to: str, folder: Path, *, new: bool, step: int) -> str:
    folder.mkdir(exist_ok=True)
    tracker = trackers.start(to, "fsljax-tests", "tiny", folder, CONFIG, new=new)
    assert tracker is not None
    tracker.log(step, {"train/loss": 1 / step})
    tracker.close()
    return json.loads((folder / trackers.RUN).read_text())["run"]


@pytest.mark.slow
def test_wandb_gets_the_figures_of_a_run_and_of_its_continuation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    first = track("wandb", tmp_path / "run", new=True, step=1)
    assert track("wandb", tmp_path / "run", new=False, step=2) == first
    assert track("wandb", tmp_path / "run", new=True, step=1) != first
    files = list((tmp_path / "run/wandb").glob(f"offline-run-*-{first}/*.wandb"))
    assert files and all(b"train/loss" in file.read_bytes() for file in files)


@pytest.mark.slow
def test_mlflow_gets_the_figures_of_a_run_and_of_its_continuation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file://{tmp_path}/mlruns")
    first = track("mlflow", tmp_path / "run", new=True, step=1)
    assert track("mlflow", tmp_path / "run", new=False, step=2) == first
    client = mlflow.MlflowClient()
    history = client.get_metric_history(first, "train/loss")
    assert [(entry.step, entry.value) for entry in history] == [(1, 1.0), (2, 0.5)]
    run = client.get_run(first)
    assert run.data.params["train.steps"] == "5" and run.info.status == "FINISHED"
