"""The console command as a program."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fsljax.cli.main import COMMANDS

from ..in_turn import program
from ..tiny_runs import ROOT

SCRIPT = "import sys\nfrom fsljax.cli.main import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
IN_ONE_PROCESS = program(
    "fsljax",
    """from fsljax.cli.main import main
status = main()
sys.stdout.flush()
os._exit(200 if {"jax", "numpy", "ml_collections"} & set(sys.modules) and not status else status)""",
)
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as pip makes it."""
    path = tmp_path_factory.mktemp("bin") / "fsljax"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def run(script: Path, tmp_path: Path) -> Run:
    """Runs the console command to its end in an empty folder."""

    def to_its_end(*arguments: str, redirection: str = "", **environment: str):
        command = [sys.executable, str(script), *arguments]
        return subprocess.run(
            ["bash", "-c", f'set -o pipefail; "$@" {redirection}', "bash", *command],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)} | environment, capture_output=True,
            text=True, errors="surrogateescape", timeout=120, check=False,
        )  # fmt: skip

    return to_its_end


LINES = ["--help", "help", "--version", *(f"{name} --help" for name in ("predict", "enroll", "detect")),
         "", "pridict", "--helpp", "predict", "detect x --least=2 y"]  # fmt: skip


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple[int, str]]:
    """Exit status and words of each command line; 200 for what need not import anything, and did."""
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS, json.dumps([line.split() for line in LINES])],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip(LINES, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("line", LINES[:6])
def test_help_needs_no_imports(line: str, answers):
    status, text = answers[line]
    assert status == 0
    assert text.startswith(("fsljax COMMAND", "fsljax 0", "usage: fsljax "))


def test_help_names_every_command(answers):
    text = answers["--help"][1]
    assert [line.split()[0] for line in text.splitlines() if line.startswith("  ")] == list(COMMANDS)
    assert answers[""] == [2, text]


def test_what_is_no_command_is_answered_with_the_nearest(answers):
    assert answers["pridict"] == [
        2,
        "fsljax: Unknown command 'pridict'. Did you mean predict? The commands are train, evaluate, predict, "
        "enroll, detect, reproduce, export, compare, sweep, configs.\n",
    ]
    assert answers["--helpp"][0] == 2


@pytest.mark.parametrize("line", ["predict", "detect x --least=2 y"])
def test_wrong_arguments_are_told_in_one_sentence(line: str, answers):
    status, text = answers[line]
    assert status == 2
    assert text.startswith(f"fsljax: fsljax {line.split()[0]}: ") and text.count("\n") == 1


@pytest.mark.slow
def test_a_run_is_trained_evaluated_and_shipped(run: Run, config_file: Path, tmp_path: Path):
    config = f"--config={config_file}"
    done = run("train", config, "--workdir=run", "--config.train.steps=1", "--config.eval.episodes=5")
    assert done.returncode == 0, done.stderr
    assert "3-way 1-shot" in done.stdout
    again = run("evaluate", "--workdir", "run", "--config.eval.episodes=6", "--output_dir=out")
    assert again.returncode == 0, again.stderr
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["test"]["3way_1shot"]["episodes"] == 6
    shipped = run("export", "--workdir=run", "--to=shipped")
    assert shipped.returncode == 0, shipped.stderr
    assert Path(shipped.stdout.strip()) == tmp_path / "shipped/checkpoints/1"


def test_a_config_may_name_a_module_in_the_current_folder(run: Run, tmp_path: Path):
    (tmp_path / "mypackage").mkdir()
    method = "from fsljax.methods.softmax import *\nfrom fsljax.methods.softmax import Config"
    (tmp_path / "mypackage/mymethod.py").write_text(method)
    (tmp_path / "mine.py").write_text(
        "from mypackage import mymethod\n\n\ndef get_config():\n    config = mymethod.default_config()\n"
        "    config.method = 'mypackage.mymethod'\n    return config\n"
    )
    done = run("train", "--config=mine.py", "--help")
    assert done.returncode == 0, done.stderr
    assert "--config.method=mypackage.mymethod" in done.stdout


def test_evaluation_needs_a_run(run: Run):
    done = run("evaluate", "--workdir=none")
    assert done.returncode == 2
    assert done.stderr == "fsljax: There is no run in none: give the --workdir of one, or its --config.\n"


def test_the_sentence_of_a_stopped_run_names_the_command_that_goes_on(
    script: Path, config_file: Path, tmp_path: Path
):
    arguments = ["train", f"--config={config_file}", "--workdir=a run"]
    run = subprocess.Popen(
        [sys.executable, str(script), *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert run.stderr is not None
    assert any("compiling the training step" in line for line in iter(run.stderr.readline, ""))
    run.send_signal(signal.SIGTERM)
    errors = run.communicate(timeout=60)[1]
    assert run.returncode == 0
    again = f"fsljax {shlex.join(arguments)}"
    assert errors == f"Stopped. To continue, run the same command again:\n  {again}\n"


def test_a_signal_while_imports_take_their_seconds_is_no_success(model: Path, photographs: Path):
    run = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "fsljax", "predict", str(model), str(photographs)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert run.stderr is not None
    assert any(line.endswith(" numpy\n") for line in iter(run.stderr.readline, ""))
    run.send_signal(signal.SIGINT)
    output, errors = run.communicate(timeout=60)
    assert (run.returncode, output) == (130, "")
    assert "Stopped." in errors.splitlines() and "Traceback" not in errors


def test_reproduce_is_the_one_of_the_package(run: Run):
    done = run("reproduce", "nothing")
    assert done.returncode == 2
    assert done.stderr.startswith("fsljax: There is no table 'nothing'")


def test_whoever_reads_may_leave_and_a_full_disk_is_no_success(run: Run):
    done = run("predict", "--help", redirection="| head -1")
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "")
    if Path("/dev/full").exists():
        done = run("predict", "--help", redirection=">/dev/full")
        assert done.returncode == 1
        assert done.stderr == "fsljax: Could not write to standard output: No space left on device.\n"


@pytest.mark.skipif(os.name == "nt", reason="has no such names")
def test_names_of_odd_bytes_are_printed_in_any_locale(
    run: Run, model: Path, photographs: Path, tmp_path: Path
):
    odd = os.fsencode(tmp_path) + b"/caf\xe9\n\xc3\xa9.png"
    Path(os.fsdecode(odd)).write_bytes((photographs / "dark/1.png").read_bytes())
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    table = run("predict", str(model), str(tmp_path), **locale)
    assert table.returncode == 0, table.stderr
    assert len(table.stdout.splitlines()) == 3 and table.stdout.isascii() and " dark " in table.stdout


WORKERS = """
import multiprocessing, os, signal, sys
from fsljax.cli import main
if __name__ == "__main__":
    main._begin_workers_with_main_of_package()
    pool = multiprocessing.get_context("spawn").Pool(1)
    print([pool.apply(signal.getsignal, (number,)).name for number in (signal.SIGINT, signal.SIGTERM)])
    pool.close()  # Leaving a `with` would end the process by SIGTERM, which it ignores.
    pool.join()
"""


def test_processes_that_read_images_leave_signals_to_the_program(tmp_path: Path):
    (tmp_path / "program.py").write_text(WORKERS)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")], capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.stdout == "['SIG_IGN', 'SIG_IGN']\n", done.stderr
