"""Sweeps over fields of a config."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fsljax import sweep
from fsljax.errors import UserError

from .tiny_runs import ROOT


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["train.way=20,30"], {"train.way": ["20", "30"]}),
        (["--config.eval.shots=(1,5),(1,)", "seed=0"], {"eval.shots": ["(1,5)", "(1,)"], "seed": ["0"]}),
        (["config.train.steps=5, 5,6"], {"train.steps": ["5", "6"]}),
    ],
)
def test_values_stand_between_commas(given: list[str], wanted: dict[str, list[str]]):
    assert sweep.choices_of(given, None) == wanted


@pytest.mark.parametrize("given", ["train.way", "train.way=", "train.way=1,,2"])
def test_values_that_cannot_be_read_are_told(given: str):
    with pytest.raises(UserError, match=r"--over train.way.* cannot be read: give FIELD=VALUE,VALUE"):
        sweep.choices_of([given], None)


def test_values_may_come_from_a_file(tmp_path: Path):
    file = tmp_path / "sweep.json"
    file.write_text(
        json.dumps({"train.learning_rate": [1e-3, 2e-3], "eval.shots": [[1, 5]], "augment.flip": [True]})
    )
    assert sweep.choices_of(["seed=0,1"], str(file)) == {
        "train.learning_rate": ["0.001", "0.002"], "eval.shots": ["(1, 5)"], "augment.flip": ["True"],
        "seed": ["0", "1"],
    }  # fmt: skip
    file.write_text("[1]")
    with pytest.raises(UserError, match="must hold a list of values for each field"):
        sweep.choices_of([], str(file))
    with pytest.raises(UserError, match=r"There is no file nothing\.json"):
        sweep.choices_of([], "nothing.json")
    with pytest.raises(UserError, match="Nothing varies"):
        sweep.choices_of([], None)


def test_every_combination_has_a_workdir_of_its_own(config_file: Path, tmp_path: Path):
    choices = {"train.way": ["3", "4"], "seed": ["0", "1"]}
    trials = sweep.trials_of(str(config_file), choices, tmp_path, ["--config.train.steps=2"])
    assert [trial.values for trial in trials] == [
        {"train.way": way, "seed": seed} for way in ("3", "4") for seed in ("0", "1")
    ]
    assert len({trial.workdir for trial in trials}) == 4
    assert trials[0].command[-3:] == ["--config.train.steps=2", "--config.train.way=3", "--config.seed=0"]
    longer = sweep.trials_of(str(config_file), choices, tmp_path, ["--config.train.steps=3"])
    assert {trial.workdir for trial in longer}.isdisjoint(trial.workdir for trial in trials)


def test_some_combinations_are_drawn_by_a_seed(config_file: Path, tmp_path: Path):
    choices = {"train.way": ["3", "4", "5"], "seed": ["0", "1", "2"]}

    def drawn(seed: int) -> list[dict[str, str]]:
        trials = sweep.trials_of(str(config_file), choices, tmp_path, [], samples=4, seed=seed)
        return [trial.values for trial in trials]

    assert drawn(0) == drawn(0) != drawn(1)
    assert len({tuple(values.items()) for values in drawn(0)}) == 4


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--over", "train.wya=3,4"], "Unknown field config.train.wya of "),
        (["--over", "seed=0,1", "--config.seed=2"], "config.seed is given by --over and by a flag"),
        (["--over", "seed=0,1", "--workdir=x"], "fsljax sweep does not accept --workdir=x"),
        (["--over", "seed=0,1", "extra"], "fsljax sweep does not accept extra"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_trained(
    arguments: list[str],
    told: str,
    config_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
):
    monkeypatch.chdir(tmp_path)
    assert sweep.run([f"--config={config_file}", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"fsljax: {told}") and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def command(config_file: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "fsljax", "sweep", f"--config={config_file}", "--config.eval.episodes=5",
            "--folder=sweep", *arguments]  # fmt: skip


@pytest.mark.slow
def test_a_sweep_is_run_resumed_and_compared(config_file: Path, tmp_path: Path):
    arguments = command(config_file, "--over", "seed=0,1", "--jobs=2", "--config.train.steps=4")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    first = run()
    assert first.returncode == 0, first.stderr
    assert "best validation" in first.stdout and first.stdout.count(" paired") == 2
    assert len(list((tmp_path / "sweep").glob("*/results.json"))) == 2
    again = run()
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert again.stderr == "2 of 2 runs are complete\n"


@pytest.mark.slow
def test_a_sweep_that_is_stopped_saves_and_a_run_that_fails_is_named(config_file: Path, tmp_path: Path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    started = subprocess.Popen(
        command(config_file, "--over", "seed=0", "--config.train.steps=100000", "--mode=train"),
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list((tmp_path / "sweep").glob("*/checkpoints/*0")):
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    errors = started.communicate(timeout=60)[1]
    assert started.returncode == 130 and errors.endswith("Stopped. Run the same command again to continue.\n")
    log = next((tmp_path / "sweep").glob("*.log")).read_text()
    assert "Stopped. To continue" in log
    failing = subprocess.run(
        command(config_file, "--over", "train.way=4,500", "--config.train.steps=2"),
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert failing.returncode == 1
    assert "fsljax: 1 of 2 runs failed: see sweep/way=500-" in failing.stderr
    assert "best validation" in failing.stdout
