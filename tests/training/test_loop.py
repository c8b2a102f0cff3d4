"""Runs that are killed, stopped or diverge."""

from __future__ import annotations

import multiprocessing
import os
import re
import runpy
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import psutil
import pytest

from fsljax.errors import UserError
from fsljax.experiment import run
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
    assert "continuing from step" in done.stderr
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
    assert "To continue, run the same command again" in errors
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


def test_what_is_not_kept_by_classes_is_not_divided_by_them(launch):
    done = launch("--config.mesh.divide_classes=True")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "fsljax: config.mesh.divide_classes is True, but protonet keeps nothing per class: set it to False."
    )


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


STREAMED = {"data.device_budget_gb": 0.0, "data.host_budget_gb": 0.0}


def published_config(config_file: Path, data_dir: Path, **fields: object):
    config = runpy.run_path(str(config_file))["get_config"]()
    config.data.update({"name": "cifar100", "data_dir": str(data_dir), "channels": 3})
    config.data.fractions = (0.5, 0.25, 0.25)
    config.update_from_flattened_dict({"train.steps": 10, "checkpoint.every": 5, **fields})
    return config


def test_a_run_begun_in_memory_goes_on_streamed_to_the_same_bits(
    config_file: Path,
    published_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    whole = published_config(config_file, published_set)
    run(whole, mode="train", folder=tmp_path / "whole")

    class Killed(Exception):
        pass

    def save_then_die(self, state, *rest):
        saved(self, state, *rest)
        self.check_saved(int(state.step))
        raise Killed

    saved = Checkpoints.save
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_then_die)
        with pytest.raises(Killed):
            run(whole, mode="train", folder=tmp_path / "changed")
    assert "they are streamed" not in capsys.readouterr().err
    run(published_config(config_file, published_set, **STREAMED), mode="train", folder=tmp_path / "changed")
    assert "continuing from step 5 of 10\nthe training data take 5.99e-05 GB" in capsys.readouterr().err
    assert (tmp_path / "changed" / "checkpoints" / "10").is_dir()
    for ours, wanted in zip(
        final_parameters(tmp_path / "changed"), final_parameters(tmp_path / "whole"), strict=True
    ):
        np.testing.assert_array_equal(ours, wanted)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_an_image_that_cannot_be_read_ends_the_run_with_a_sentence_that_names_its_file(
    config_file: Path, damaged_set: Path, tmp_path: Path, workers: int
):
    config = published_config(config_file, damaged_set, **STREAMED, **{"data.workers": workers})
    (file,) = damaged_set.rglob("*train.array_record*")
    sentence = rf"^Image \d+ of {file} cannot be read: [^\n]* Copy the data set again\.$"
    with pytest.raises(UserError) as caught:
        run(config, mode="train", folder=tmp_path / "run")
    assert re.match(sentence, str(caught.value))  # not its notes, which nobody is shown
    assert not multiprocessing.active_children()


def streamed_arguments(published_set: Path) -> list[str]:
    fields = {"data.name": "cifar100", "data.data_dir": published_set, "data.channels": 3, "data.workers": 2,
              "data.fractions": "(0.5, 0.25, 0.25)", "train.steps": 100_000, **STREAMED}  # fmt: skip
    return [f"--config.{name}={value}" for name, value in fields.items()]


def processes_below(run: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(run.pid).children(recursive=True)


def wait_until_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=30)
    alive = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert not alive, alive


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_a_run_and_its_readers_stops_it_in_order(
    start: Start, published_set: Path, tmp_path: Path, number: signal.Signals
):
    run = start("--workdir=stopped", "--mode=train", *streamed_arguments(published_set), own_group=True)
    wait_for_checkpoint(run, tmp_path / "stopped")
    readers = processes_below(run)
    assert len(readers) >= 2
    os.killpg(run.pid, number)  # as Ctrl-C does
    _, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    assert "To continue, run the same command again" in errors
    assert "Traceback" not in errors and "leaked" not in errors
    wait_until_gone(readers)


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_no_readers(start: Start, published_set: Path, tmp_path: Path):
    run = start("--workdir=killed", "--mode=train", *streamed_arguments(published_set))
    wait_for_checkpoint(run, tmp_path / "killed")
    readers = processes_below(run)
    assert len(readers) >= 2
    run.kill()
    run.communicate()
    wait_until_gone(readers)
