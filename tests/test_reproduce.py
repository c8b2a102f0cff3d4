"""Tables of the documentation made anew."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fsljax import reproduce
from fsljax.config import experiments
from fsljax.errors import UserError
from fsljax.training import workdir

ROOT = Path(__file__).parents[1]
TABLES = sorted(path.stem for path in (ROOT / "configs" / "tables").glob("*.py"))


@pytest.fixture(autouse=True)
def in_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", TABLES)
def test_every_row_of_a_table_has_its_config(name: str):
    table = reproduce.read_table(name)
    given = experiments.names(ROOT / "configs")
    assert len({row.name for row in table.rows}) == len(table.rows)
    for row in table.rows:
        while row:
            assert row.config in given
            row = row.start


def test_workdirs_keep_their_names(tmp_path: Path):
    """A table that was made before goes on with the runs that it had."""
    row = reproduce.read_table("hierarchy_tiny_imagenet").rows[-1]
    folder = reproduce._workdir(tmp_path, row, 2, ["--config.data.data_dir=DIR"])
    assert folder == tmp_path / "magnet_tiny_imagenet_2_12_4-7c25a154-2"


def test_what_is_run_is_the_experiment_of_the_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    started = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        started.append(command)
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / "correct.npz").write_bytes(b"")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    row = reproduce.Row("softmax", "softmax_flowers_mnv2F_1_12_4", "softmax")
    for _ in range(2):
        reproduce._launch("softmax", row, tmp_path / "run", ["--config.seed=1"], "correct.npz")
    (command,) = started
    assert command[2:] == [
        "--config=configs/softmax_fine_grained.py:flowers_mnv2F_1_12_4",
        f"--workdir={tmp_path / 'run'}",
        "--config.seed=1",
    ]


def test_a_record_that_is_damaged_is_told_and_what_it_tells_of_done_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    started = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        started.append(command)
        (tmp_path / "correct.npz").touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    row = reproduce.Row("softmax", "softmax_flowers_mnv2F_1_12_4", "softmax")

    def launch() -> int:
        reproduce._launch("softmax", row, tmp_path, [], "correct.npz")
        return len(started)

    assert (launch(), launch()) == (1, 1)
    record = tmp_path / "reproduced.json"
    for damaged in ("", "[]", "[" * 100_000, record.read_text().replace("launch.py", "lounge.py")):
        capsys.readouterr()
        before = len(started)
        record.write_text(damaged)
        assert (launch(), launch()) == (before + 1, before + 1)
        assert "its run is repeated" in capsys.readouterr().err
    (tmp_path / "correct.npz").unlink()
    assert launch() == len(started) == before + 2


def test_damaged_products_are_told(tmp_path: Path):
    for content in (b"", b"PK", b"text"):
        (tmp_path / "correct.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"correct\.npz is damaged.*Delete it, and run the same command"):
            workdir.correct_of(tmp_path, "softmax")
    for array in (np.ones(3), np.ones((2, 2), bool), np.ones(0, bool)):
        np.savez(tmp_path / "correct.npz", softmax=array)
        with pytest.raises(UserError, match="does not hold a yes or no for each test example"):
            workdir.correct_of(tmp_path, "softmax")
    for run, count in (("a", 3), ("b", 4)):
        (tmp_path / run).mkdir()
        np.savez(tmp_path / run / "correct.npz", softmax=np.ones(count, bool))
    with pytest.raises(UserError, match="were tested on different images"):
        reproduce._stacked([tmp_path / "a", tmp_path / "b"], "softmax")
    with pytest.raises(UserError, match="There are no results"):
        workdir.settings_of(tmp_path)
    (tmp_path / "results.json").write_text('{"test": {"softmax": {"accuracy": 0.5}}}')
    with pytest.raises(UserError, match="lack 'recall'"):
        reproduce._figure(tmp_path, "softmax", "recall")


def test_what_cannot_be_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    assert reproduce.main(["imagenet"]) == 2
    assert "There is no table 'imagenet'" in capsys.readouterr().err
    assert reproduce.main(["flower"]) == 2
    assert "There is no table 'flower'. Did you mean flowers?" in capsys.readouterr().err
    assert reproduce.main([]) == 2
    assert "tables: flowers, " in capsys.readouterr().out


def test_shipped_tables_are_reproduced_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert reproduce.main(["--help"]) == 0
    assert "tables: flowers, " in capsys.readouterr().out
    assert reproduce.read_table("flowers").rows
    started = []

    def run(command: list[str]) -> int:
        started.append(command)
        (tmp_path / "run").mkdir()
        (tmp_path / "run/correct.npz").touch()
        return 0

    monkeypatch.setattr(reproduce, "run_program", run)
    row = reproduce.Row("softmax", "softmax_flowers_mnv2F_1_12_4", "softmax")
    reproduce._launch("softmax", row, Path("run"), [], "correct.npz")
    (command,) = started
    assert command[1:4] == ["-m", "fsljax", "train"]
    assert command[4] == f"--config={ROOT}/configs/softmax_fine_grained.py:flowers_mnv2F_1_12_4"
    (tmp_path / "configs/tables").mkdir(parents=True)
    (tmp_path / "configs/tables/own.py").write_text("")
    assert reproduce.table_names() == ["own"]


@pytest.mark.slow
def test_a_table_is_run_once_and_shown_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys):
    rows = tuple(
        reproduce.Row(name, "magnet_glyphs_2", "nearest_cluster", (f"--config.train.steps={steps}",))
        for name, steps in (("short", 2), ("long", 60))
    )
    steps = ("--config.train.steps=2",)
    start = reproduce.Row("softmax", "softmax_glyphs_2", "softmax", steps)
    rows = (reproduce.Row("after softmax", "magnet_glyphs_2", "nearest_cluster", steps, start), *rows)
    monkeypatch.setattr(reproduce, "read_table", lambda name: reproduce.Table(rows, seeds=(0,)))
    monkeypatch.setattr(reproduce, "_RUNS", tmp_path)
    assert reproduce.main(["tiny", "--config.data.max_classes=20"]) == 0
    shown = capsys.readouterr()
    assert "short, seed 0" in shown.err
    assert "softmax, seed 0" in shown.err
    assert reproduce.main(["tiny", "--config.data.max_classes=20"]) == 0
    again = capsys.readouterr()
    assert again.out == shown.out
    assert again.err == ""


CHILD = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("saving", file=sys.stderr), sys.exit(0)))
print("began", file=sys.stderr, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_handed_on_to_the_run_under_way(tmp_path: Path, number: signal.Signals):
    table = "class Table:\n    rows = ()\n    def reproduce(self, folder, overrides):\n        "
    table += "import sys\n        from fsljax import reproduce\n        "
    table += f"return reproduce.run_program([sys.executable, '-c', {CHILD!r}])\nget_table = Table\n"
    (tmp_path / "configs/tables").mkdir(parents=True)
    (tmp_path / "configs/tables/tiny.py").write_text(table, encoding="utf-8")
    (tmp_path / "launch.py").touch()
    run = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "fsljax.reproduce", "tiny"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert run.stderr is not None and run.stderr.readline() == "began\n"
    os.killpg(run.pid, number)  # as a terminal does
    _, errors = run.communicate(timeout=60)
    assert errors == "saving\nStopped. Run the same command again to continue.\n"
    assert run.returncode == 130
