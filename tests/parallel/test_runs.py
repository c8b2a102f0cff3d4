"""Runs of two processes: what they leave, how they stop, and how they go on."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fsljax.training import workdir

from ..tiny_runs import command
from .starting import Outcome, free_port, outcomes, start

Started = list[subprocess.Popen[str]]
Start = Callable[..., Started]


@pytest.fixture
def start_two(config_file: Path, tmp_path: Path) -> Start:
    """Starts launch.py as two processes of a run, with the same arguments, or the second with others."""

    def run(*arguments: str, second: tuple[str, ...] | None = None, count: int = 2) -> Started:
        together = [f"--coordinator=127.0.0.1:{free_port()}", f"--processes={count}", "--workdir=run"]
        commands = [
            command(
                config_file, *together, f"--process={number}", *(second if number and second else arguments)
            )
            for number in range(count)
        ]
        return start(commands, cwd=tmp_path)

    return run


def run_one(config_file: Path, folder: Path, *arguments: str) -> Outcome:
    """Runs launch.py as one process with two devices."""
    env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    [done] = outcomes(
        start([command(config_file, "--config.mesh.devices=2", *arguments)], env=env, cwd=folder)
    )
    return done


def digests(folder: Path) -> dict[str, dict[str, str]]:
    """Of each checkpoint, those of its parts."""
    return {
        path.parts[-3]: json.loads(path.read_text())["digests"]
        for path in sorted(folder.glob("checkpoints/*/about/metadata"))
    }


def losses(folder: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Reads standard error up to a line that has the text."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"{text!r} is not said")


@pytest.fixture(scope="module")
def undisturbed(config_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of one process with two devices."""
    folder = tmp_path_factory.mktemp("one")
    assert run_one(config_file, folder, "--workdir=run").status == 0
    return folder / "run"


@pytest.mark.slow
def test_two_processes_leave_what_one_with_two_devices_leaves(start_two, undisturbed, tmp_path):
    first, second = outcomes(start_two())
    assert (first.status, second) == (0, Outcome(0, "", ""))
    assert "3-way 1-shot" in first.out and "[Gloo]" not in first.out
    assert (tmp_path / "run" / "results.json").read_text() == (undisturbed / "results.json").read_text()
    assert digests(tmp_path / "run") == digests(undisturbed) != {}
    assert losses(tmp_path / "run") == losses(undisturbed)


@pytest.mark.parametrize(
    "asked", [pytest.param(0, marks=pytest.mark.campaign), pytest.param(1, marks=pytest.mark.slow)]
)
def test_a_stop_of_one_is_a_stop_of_all_and_the_run_goes_on(
    asked, start_two, undisturbed, config_file, tmp_path
):
    started = start_two()
    wait_for(started[0], "step 10/40")
    started[asked].send_signal(signal.SIGTERM)
    for one in outcomes(started):
        assert one.status == 0
        assert "Stopped. To continue, run the same command again on all hosts:\n" in one.err
    steps = [int(path.name) for path in (tmp_path / "run" / "checkpoints").glob("*") if path.name.isdigit()]
    assert 10 <= max(steps) < 40
    # By one process and two devices, and what it leaves is as if nothing had been.
    assert run_one(config_file, tmp_path, "--workdir=run").status == 0
    assert (tmp_path / "run" / "results.json").read_text() == (undisturbed / "results.json").read_text()
    assert digests(tmp_path / "run")["40"] == digests(undisturbed)["40"]


@pytest.mark.parametrize(
    "victim", [pytest.param(0, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.campaign)]
)
def test_a_killed_process_ends_the_run_which_goes_on(victim, start_two, undisturbed, tmp_path):
    started = start_two()
    wait_for(started[0], "step 10/40")
    started[victim].send_signal(signal.SIGKILL)
    ended = outcomes(started)
    assert ended[1 - victim].status == 1
    assert ended[1 - victim].err.endswith(
        f"fsljax: Process {victim} of this run ended unexpectedly (killed, or its host is down or "
        "disconnected): run the same command again on all hosts; training continues from the last "
        "checkpoint.\n"
    )
    assert "Traceback" not in ended[1 - victim].err
    assert [one.status for one in outcomes(start_two())] == [0, 0]
    assert (tmp_path / "run" / "results.json").read_text() == (undisturbed / "results.json").read_text()


def test_processes_that_differ_are_refused(start_two, tmp_path):
    for one in outcomes(start_two(second=("--config.train.steps=50", "--mode=train"))):
        assert one.status == 2
        assert one.err == (
            "fsljax: Process 1 runs another config than process 0: --mode is 'train' there and "
            "'train_and_evaluate' in process 0; train.steps is 50 there and 40 in process 0. Start all with "
            "the same command.\n"
        )
    assert not (tmp_path / "run").exists()


def test_a_workdir_that_another_run_holds_is_refused_in_all(start_two, tmp_path):
    with workdir.exclusive(tmp_path / "run"):
        first, second = outcomes(start_two())
    assert first.status == second.status == 2
    assert first.err.startswith("fsljax: Another run is using run: ")
    assert second.err == f"fsljax: Process 0 cannot continue: {first.err.removeprefix('fsljax: ')}"


def test_other_images_are_refused(start_two, image_folder, tmp_path):
    other = tmp_path / "images"
    other.mkdir()
    for folder in image_folder.iterdir():
        (other / folder.name).symlink_to(folder)
    (other / "class00").unlink()
    (other / "class00").mkdir()
    for file in (image_folder / "class01").iterdir():
        (other / "class00" / file.name).write_bytes(file.read_bytes())
    first, second = outcomes(start_two(second=(f"--config.data.path={other}",)))
    for one in (first, second):
        assert one.status == 2
        assert "Process 1 runs on other images than process 0: " in one.err
    assert not (tmp_path / "run" / "config.json").exists()


def test_images_that_one_does_not_have(start_two, tmp_path):
    first, second = outcomes(start_two(second=("--config.data.path=nowhere",)))
    assert (first.status, second.status) == (2, 2)
    assert first.err.endswith(f"Process 1 cannot continue: {second.err.removeprefix('fsljax: ')}")
    assert "nowhere" in second.err and second.err.count("\n") == 1


def test_some_of_the_flags(config_file, tmp_path):
    [one] = outcomes(start([command(config_file, "--processes=2", "--process=0")], cwd=tmp_path))
    assert one.status == 2 and one.err.startswith("fsljax: --processes needs --coordinator: ")


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(2))
def test_whatever_ends_a_process_and_whenever_the_run_comes_to_the_same(
    seed, start_two, undisturbed, tmp_path
):
    generator = random.Random(seed)
    for _ in range(10):
        started = start_two("--wait=15")
        asked, number = generator.choice(started), generator.choice([signal.SIGKILL, signal.SIGTERM])
        time.sleep(generator.uniform(0, 14))
        asked.send_signal(number)
        for one in outcomes(started):
            assert one.status in ((0, 1, 2, -signal.SIGKILL) if number == signal.SIGKILL else (0, 2)), one
            assert "Traceback" not in one.err and "***" not in one.err
            assert one.status not in (1, 2) or one.err.splitlines()[-1].startswith("fsljax: "), one
    assert [one.status for one in outcomes(start_two())] == [0, 0]
    assert (tmp_path / "run" / "results.json").read_text() == (undisturbed / "results.json").read_text()
    assert digests(tmp_path / "run")["40"] == digests(undisturbed)["40"]
