"""Reproduces the tables of the documentation: `python -m fsljax.reproduce NAME [--config.x=y …]`.

`fsljax reproduce NAME …` does the same. Runs every config of a table, `configs/tables/NAME.py`, with every
seed, each in a workdir under runs/reproduce/NAME, then prints the table. Completed runs are not repeated, and
interrupted runs are resumed. Overrides apply to every run, and so does a signal to stop. Exit status: 0, 1 or
2 as for launch.py, 130 if stopped.
"""

from __future__ import annotations

import hashlib
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from fsljax.config import experiments, shipped
from fsljax.config.reading import nearest
from fsljax.errors import UserError
from fsljax.reporting import streams
from fsljax.reporting.comparison import Compared, comparison, detection_comparison
from fsljax.storage.json_files import read_checked, write_json
from fsljax.training.signals import Interruption, Stopped, run_program
from fsljax.training.workdir import CORRECT, RESULTS, correct_of, settings_of

_RUNS = Path("runs/reproduce")
_CONFIGS = Path("configs")
_TABLES = "tables"


@dataclass(frozen=True)
class Row:
    """A row of a table: one method.

    Attributes:
      name: name shown in the table.
      config: name of the experiment, its `config.name`.
      setting: setting of `results.json` whose accuracy is shown.
      overrides: overrides of the config.
      start: a run whose network initialises this one, instead of weights from a file.
    """

    name: str
    config: str
    setting: str
    overrides: tuple[str, ...] = ()
    start: Row | None = None


class Reproducible(Protocol):
    """The return type of `get_table()` in the files of configs/tables/."""

    @property
    def rows(self) -> Sequence[Row]:
        """The runs to train."""

    def reproduce(self, folder: Path, overrides: Sequence[str]) -> str:
        """Runs whatever is missing, in workdirs of a folder, and returns the table as text."""


@dataclass(frozen=True)
class Table:
    """Compares methods with the same budget on the same test examples.

    Attributes:
      rows: the methods; the last one is compared with each of the others.
      seeds: each method is trained with every seed.
      beside: setting and metric of `results.json` to show as well, in per cent, as means over seeds.
    """

    rows: tuple[Row, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    beside: tuple[str, str] | None = None

    def reproduce(self, folder: Path, overrides: Sequence[str]) -> str:
        compared = []
        for row in self.rows:
            runs = [_run(folder, row, seed, overrides) for seed in self.seeds]
            correct = _stacked(runs, row.setting)
            figure = float(np.mean([_figure(run, *self.beside) for run in runs])) if self.beside else None
            compared.append(Compared(row.name, row.setting, correct, figure))
        return comparison(compared, self.beside[1] if self.beside else "")


@dataclass(frozen=True)
class DetectionTable:
    """Compares RepMet's detector with its baselines in few-shot episodes.

    The detector of the baselines has a linear head instead and is trained for equally many steps.

    Attributes:
      config: name of the experiment, its `config.name`.
      shots, epochs: shots, and epochs of fine-tuning; every combination is a row.
      seed: seed of both training runs.
    """

    config: str
    shots: tuple[int, ...] = (1, 5, 10)
    epochs: tuple[int, ...] = (0, 5)
    seed: int = 0

    @property
    def rows(self) -> tuple[Row, Row]:
        """The runs to train: RepMet, and the detector of the baselines."""
        first = f"5way_{self.shots[0]}shot_ft{self.epochs[0]}"
        # One loss of classes less stands beside that of boxes.
        kind = ("--config.head.kind=linear", "--config.loss.linear=0.0", "--config.loss.boxes=1.0")
        linear = Row("linear head", self.config, "base", kind)
        return Row("RepMet", self.config, first), linear

    def reproduce(self, folder: Path, overrides: Sequence[str]) -> str:
        repmet, linear = self.rows
        workdirs = {row.name: _workdir(folder, row, self.seed, overrides) for row in self.rows}
        common = (*overrides, f"--config.seed={self.seed}")
        for row in self.rows:
            arguments = (*row.overrides, *common, "--config.eval.episodes=0")
            _launch(f"training {row.name}", row, workdirs[row.name], arguments, RESULTS)
        shots, epochs = (",".join(map(str, numbers)) for numbers in (self.shots, self.epochs))
        episodes = (f"--config.eval.shots={shots}", f"--config.eval.fine_tune_epochs={epochs}")
        evaluations = {
            "distractors": ("--config.eval.distractors=True",),
            "distance": (f"--config.eval.baseline={workdirs[linear.name]}", "--config.eval.ceiling=True"),
        }
        workdir = workdirs[repmet.name]
        for name, further in evaluations.items():
            arguments = (*common, "--mode=evaluate", *episodes, *further)
            setting = f"{repmet.setting}_{name}"
            _launch(f"episodes, {name}", repmet, workdir, arguments, RESULTS, setting)
        return detection_comparison(settings_of(workdir), self.shots, self.epochs)


def read_table(name: str) -> Reproducible:
    """The table of `configs/tables/NAME.py`.

    Raises:
      UserError: if there is no such table; the message lists the closest name and all tables.
    """
    folder, tables = _configs() / _TABLES, table_names()
    if name not in tables:
        raise UserError(
            f"There is no table {name!r}.{nearest(name, tables)} {folder} holds {', '.join(tables)}."
        )
    table: Reproducible = runpy.run_path(str(folder / f"{name}.py"))["get_table"]()
    return table


def table_names() -> list[str]:
    """The tables in the `configs/` of the current folder; without any there, those that come with fsljax."""
    return sorted(path.stem for path in (_configs() / _TABLES).glob("*.py"))


def reproduce(name: str, overrides: Sequence[str]) -> None:
    """Runs whatever is missing from a table, and prints it.

    Raises:
      UserError: if there is no such table, or a run fails.
    """
    print(read_table(name).reproduce(_RUNS / name, overrides))


def _configs() -> Path:
    """The `configs/` of the current folder if it holds tables, else the configs that come with fsljax."""
    return _CONFIGS if any((_CONFIGS / _TABLES).glob("*.py")) else shipped.folder()


def _stacked(workdirs: Sequence[Path], setting: str) -> np.ndarray:
    """The same of several runs, bool `[runs, n]`."""
    correct = [correct_of(workdir, setting) for workdir in workdirs]
    if len(set(map(len, correct))) > 1:
        raise UserError(
            f"The runs {', '.join(map(str, workdirs))} were tested on different images: "
            "delete the outdated ones."
        )
    return np.stack(correct)


def _run(folder: Path, row: Row, seed: int, overrides: Sequence[str]) -> Path:
    """Trains and evaluates unless that is done; returns the workdir."""
    if row.start:
        start = _run(folder, row.start, seed, overrides)
        weights = "--config.network.weights="
        overrides = [override for override in overrides if not override.startswith(weights)]
        overrides.append(f"--config.network.init_from={start}")
    # Rows that differ in the setting alone share their runs.
    workdir = _workdir(folder, row, seed, overrides)
    arguments = (*row.overrides, *overrides, f"--config.seed={seed}")
    _launch(f"{row.name}, seed {seed}", row, workdir, arguments, CORRECT)
    return workdir


def _workdir(folder: Path, row: Row, seed: int, overrides: Sequence[str]) -> Path:
    identity = repr((row.config, row.overrides, list(overrides)))
    return folder / f"{row.config}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}-{seed}"


def _launch(
    name: str, row: Row, workdir: Path, arguments: Sequence[str], product: str, setting: str | None = None
) -> None:
    """Trains and evaluates, by launch.py where there is one; nothing if the workdir's record says it is done.

    Args:
      name: of what is done, to be printed.
      row: whose config is run.
      workdir: of the run.
      arguments: further ones.
      product: file that the run ends with.
      setting: of `results.json`, that the run adds; None: the whole product is made anew.
    """
    config = experiments.find(row.config, _configs())
    program = ["launch.py"] if Path("launch.py").exists() else ["-m", "fsljax", "train"]
    command = [sys.executable, *program, f"--config={config}", f"--workdir={workdir}", *arguments]
    record = workdir / ("reproduced.json" if setting is None else f"reproduced_{setting}.json")
    content = Path(config.split(":")[0]).read_bytes()
    done = {"command": command, "config": hashlib.sha256(content).hexdigest()}
    if _recorded(record) == done and (workdir / product).exists():
        return
    print(f"{name} …", file=sys.stderr, flush=True)
    if setting is None:
        (workdir / product).unlink(missing_ok=True)
    status = run_program(command)
    if status:
        raise UserError(f"{' '.join(command)} ended with status {status}.")
    if not (workdir / product).exists() or (setting and setting not in settings_of(workdir)):
        raise UserError(f"The run in {workdir} was stopped: run the same command again to continue.")
    try:
        write_json(record, done)
    except OSError as error:
        raise UserError(f"{record} cannot be written ({error.strerror or error}).") from error


def _recorded(record: Path) -> dict[str, object]:
    """What was done, by its record; nothing if there is none, or, after a warning, none that can be read."""
    try:
        return read_checked(record)
    except FileNotFoundError:
        pass
    except UserError:
        print(f"{record} is damaged: its run is repeated.", file=sys.stderr)
    return {}


def _figure(workdir: Path, setting: str, metric: str) -> float:
    try:
        return settings_of(workdir)[setting][metric]
    except KeyError as error:
        raise UserError(f"The results in {workdir} lack {error}: evaluate the run again.") from error


def main(argv: list[str]) -> int:
    """Returns the exit status: 0, 2 for an invalid request, 1 if a run failed, 130 if stopped."""
    try:
        if not argv or argv[0] in ("-h", "--help"):
            print(__doc__)
            print("tables:", ", ".join(table_names()))
            return 0 if argv else 2
        with Interruption():
            reproduce(argv[0], argv[1:])
    except UserError as error:
        print(f"fsljax: {error}", file=sys.stderr)
        return error.exit_status
    except (KeyboardInterrupt, Stopped):
        print("Stopped. Run the same command again to continue.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    output = streams.use()
    status = main(sys.argv[1:])
    if output.failure is not None:
        print(f"fsljax: Could not write to standard output: {output.failure}.", file=sys.stderr)
    sys.exit(status or int(output.failure is not None))
