"""Runs that are killed, stopped or diverge."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from fsljax.training.checkpoints import Checkpoints

Start = Callable[..., "subprocess.Popen[str]"]


def final_parameters(workdir: Path) -> list[np.ndarray]:
    return jax.tree.leaves(Checkpoints(workdir).restore_model().variables)


def wait_for_checkpoint(run: subprocess.Popen[str], workdir: Path) -> None:
    """Returns once a checkpoint is complete, long before the run is."""
    deadline = time.monotonic() + 120
    while not any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*")):
        assert run.poll() is None, run.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def uninterrupted(launch, tmp_path: Path) -> Path:
    done = launch("--workdir=whole", "--mode=train", "--config.train.steps=300")
    assert done.returncode == 0, done.stderr
    return tmp_path / "whole"


def test_a_run_killed_and_started_again_ends_with_the_same_bits(launch, start: Start, uninterrupted: Path):
    workdir = uninterrupted.with_name("killed")
    arguments = ("--workdir=killed", "--mode=train", "--config.train.steps=300")
    run = start(*arguments)
    wait_for_checkpoint(run, workdir)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    done = launch(*arguments)
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stderr
    for ours, wanted in zip(final_parameters(workdir), final_parameters(uninterrupted), strict=True):
        np.testing.assert_array_equal(ours, wanted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_asked_to_stop_saves_and_says_how_to_go_on(
    launch, start: Start, tmp_path: Path, number: signal.Signals
):
    arguments = ("--workdir=stopped", "--mode=train", "--config.train.steps=100000")
    run = start(*arguments)
    wait_for_checkpoint(run, tmp_path / "stopped")
    run.send_signal(number)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors
    assert "To go on, run the same command again" in errors
    assert "--workdir=stopped" in errors.splitlines()[-1]
    assert Checkpoints(tmp_path / "stopped").selections()


def test_a_second_run_in_the_same_workdir_is_refused(launch, start: Start, tmp_path: Path):
    run = start("--workdir=shared", "--mode=train", "--config.train.steps=100000")
    try:
        wait_for_checkpoint(run, tmp_path / "shared")
        second = launch("--workdir=shared", "--mode=train", "--config.train.steps=100000")
        assert second.returncode == 2
        assert "Another run is using" in second.stderr
    finally:
        run.kill()
        run.communicate()


def test_a_loss_that_is_no_number_stops_the_run_at_its_step(launch, tmp_path: Path):
    steps = ("--workdir=run", "--mode=train", "--config.train.steps=40")
    done = launch(*steps, "--config.train.learning_rate=1e38", "--config.train.schedule=constant",
                  "--config.loss.temperature=1e-38", "--config.train.optimizer=sgd")  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "at step" in done.stderr
    assert "Traceback" not in done.stderr
    selections = Checkpoints(tmp_path / "run").selections()
    for array in final_parameters(tmp_path / "run") if selections else []:
        assert np.isfinite(array).all()
