"""launch.py under signals, closed streams and odd locales."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .tiny_runs import ROOT, command

AT_EXIT = """
import atexit, os, signal, sys, time
if "launch.py" in " ".join(sys.orig_argv):
    atexit.register(lambda: (os.kill(os.getpid(), signal.{name}), time.sleep(20)))
"""
IN_CALLBACK = """
import gc, os, signal, sys, time
sys.path.insert(0, {root!r})
import launch
signal.signal(signal.SIGTERM, launch.stop)
def callback(*_):
    gc.callbacks.remove(callback); os.kill(os.getpid(), signal.SIGTERM); time.sleep(1)
gc.callbacks.append(callback)
gc.collect()
print("still running")
"""


def test_a_signal_in_a_callback_of_the_garbage_collector_is_not_lost():
    program = IN_CALLBACK.format(root=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "Stopped before anything began.\n")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_program_that_is_over_says_nothing_more(config_file: Path, tmp_path: Path, name: str):
    (tmp_path / "sitecustomize.py").write_text(AT_EXIT.format(name=name), encoding="utf-8")
    done = subprocess.run(
        command(config_file, "--mode=evaluate", "--workdir=none"),
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, check=False, timeout=60,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        "fsljax: There is no run in none: train first (--mode=train), or give the --workdir of a run.\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_before_training_ends_a_run_at_once(start, tmp_path: Path, number: signal.Signals):
    run = start("--workdir=run")
    said = iter(run.stderr.readline, "")
    assert any("compiling the training step" in line for line in said)
    run.send_signal(number)
    output, errors = run.communicate(timeout=60)
    assert (run.returncode, output) == (0, "")
    assert errors.startswith("Stopped. To continue, run the same command again:\n  python ")
    assert errors.count("\n") == 2


@pytest.fixture(scope="module")
def done(config_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a workdir, `run`, that was trained, to be evaluated."""
    folder = tmp_path_factory.mktemp("streams")
    subprocess.run(
        command(config_file, "--workdir=run", "--mode=train", "--config.train.steps=1"),
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder


def evaluated(
    folder: Path, config: Path, redirection: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """An evaluation in a shell; its results are there however its output fared."""
    (folder / "run/results.json").unlink(missing_ok=True)
    arguments = command(config, "--workdir=run", "--mode=evaluate", "--config.train.steps=1")
    result = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$@" {redirection}', "bash", *arguments],
        cwd=folder, env=os.environ | environment, check=False, capture_output=True, timeout=120,
    )  # fmt: skip
    assert (folder / "run/results.json").is_file()
    assert b"Error" not in result.stderr and b"Traceback" not in result.stderr
    return subprocess.CompletedProcess(
        arguments, result.returncode, result.stdout.decode("latin-1"), result.stderr.decode("latin-1")
    )


def test_whoever_reads_the_output_may_leave(done: Path, config_file: Path):
    result = evaluated(done, config_file, "| head -1")
    assert result.returncode == 0
    assert result.stdout.startswith("setting ") and result.stdout.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
def test_output_that_finds_no_room_is_no_success(done: Path, config_file: Path):
    result = evaluated(done, config_file, ">/dev/full")
    assert result.returncode == 1
    assert result.stderr.endswith("fsljax: Could not write to standard output: No space left on device.\n")


@pytest.mark.slow
def test_a_run_needs_no_standard_streams(done: Path, config_file: Path):
    assert evaluated(done, config_file, "<&- >&- 2>&-").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_the_table_is_written_in_any_encoding(done: Path, config_file: Path, encoding: str):
    result = evaluated(done, config_file, "", PYTHONIOENCODING=encoding)
    assert result.returncode == 0
    assert "------------" in result.stdout


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="has no such locale")
def test_where_the_locale_is_ascii_files_keep_their_names(
    config_file: Path, image_folder: Path, tmp_path: Path
):
    shutil.copytree(image_folder, tmp_path / "imagesé")
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    images = f"--config.data.path={tmp_path}/imagesé"
    result = subprocess.run(
        command(config_file, "--workdir=runé", images, "--config.train.steps=1"),
        cwd=tmp_path, env=os.environ | locale, check=False, capture_output=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "runé/report.html").is_file()
    assert b"report      run\\xe9/report.html" in result.stdout


def test_a_name_that_is_not_utf_8_is_told(config_file: Path, tmp_path: Path):
    result = subprocess.run(
        [*map(os.fsencode, command(config_file, "--config.train.steps=1")), b"--workdir=run\xe9"],
        cwd=tmp_path, check=False, capture_output=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr.startswith(b"fsljax: The name of run\\udce9 is not UTF-8: give another --workdir")
