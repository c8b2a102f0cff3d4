"""Several runs beside each other: fsljax compare RUN…, or python -m fsljax.compare

A run is a workdir, or a folder that evaluation wrote to. Each is compared with the first: where both were
tested on the same images or in the same episodes, the difference has a paired 95 % interval.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fsljax.arguments import Parser
from fsljax.errors import UserError, first_few
from fsljax.evaluation.paired import paired_bootstrap
from fsljax.reporting import streams
from fsljax.reporting.tables import MISSING, aligned, metric_title, setting_title
from fsljax.storage.array_files import read_arrays
from fsljax.storage.paths import given_path
from fsljax.training.method import OF_EPISODES
from fsljax.training.workdir import CORRECT, results_of

_COUNTS = ("episodes", "examples", "decisions", "runs", "queries")


@dataclass(frozen=True)
class Run:
    """What a run was measured to be.

    Attributes:
      name: as given.
      results: the content of `results.json`.
      outcomes: by setting, for each test example or episode; empty where none were kept.
    """

    name: str
    results: dict[str, Any]
    outcomes: dict[str, np.ndarray]

    @property
    def settings(self) -> dict[str, dict[str, float]]:
        settings: dict[str, dict[str, float]] = self.results["test"]
        return settings


@dataclass(frozen=True)
class Row:
    """A run in a setting; figures are fractions.

    Attributes:
      run, config, seed, step, setting, metric: what was measured.
      value, ci95: the figure, and half the width of its 95 % interval.
      count: test examples or episodes.
      difference, lower, upper: to the first run, and its 95 % interval; None: of the first run itself.
      paired: whether that interval is of pairs.
    """

    run: str
    config: str
    seed: int | None
    step: int | None
    setting: str
    metric: str
    value: float
    ci95: float | None
    count: int | None
    difference: float | None = None
    lower: float | None = None
    upper: float | None = None
    paired: bool | None = None


def compare(folders: Sequence[str | Path], settings: Sequence[str] = ()) -> tuple[list[Row], list[str]]:
    """Figures of runs, and how far each is from the first.

    Args:
      folders: workdirs, or folders that evaluation wrote to; the first is what the others are compared with.
      settings: of `results.json`; none: all that the runs share, else the first of each run.

    Returns:
      a row for each run in each setting; and a sentence for each run that cannot be paired with the first.

    Raises:
      UserError: if a folder has no results, or a run lacks a setting that is asked for.
    """
    runs = [read_run(folder) for folder in folders]
    if len({run.name for run in runs}) < len(runs):
        raise UserError("A run is given twice: give each once.")
    rows: list[Row] = []
    notes: dict[str, str] = {}
    for names in _settings(runs, settings):
        first = _row(runs[0], names[0])
        rows.append(first)
        for run, name in zip(runs[1:], names[1:], strict=True):
            row = _row(run, name)
            reason = why_not_paired(runs[0], names[0], run, name, row.metric)
            if reason:
                notes.setdefault(run.name, f"{run.name} cannot be paired with {runs[0].name}: {reason}.")
            rows.append(_with_difference(row, first, runs[0], run, paired=not reason))
    return rows, list(notes.values())


def read_run(folder: str | Path) -> Run:
    """What a folder holds of a run.

    Raises:
      UserError: if it holds no results, or they cannot be read.
    """
    path = given_path(folder, "RUN")
    try:
        results = results_of(path)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"There are no results in {path}: give a run that was evaluated, or evaluate it with "
            f"fsljax evaluate --workdir={path}."
        ) from None
    if not results["test"]:
        raise UserError(f"The results in {path} contain no settings: evaluate the run again.")
    try:
        outcomes = read_arrays(path / CORRECT)
    except FileNotFoundError:
        outcomes = {}
    return Run(str(folder), results, outcomes)


def why_not_paired(first: Run, first_name: str, run: Run, name: str, metric: str) -> str:
    """Why two runs cannot be compared example by example; empty if they can."""
    images = [one.results.get("images") for one in (first, run)]
    if None in images or images[0] != images[1]:
        return "they were tested on different images"
    if metric != "accuracy":
        return f"{metric_title(metric)} is not measured per example"
    outcomes = [_outcome(one, setting) for one, setting in ((first, first_name), (run, name))]
    for one, kept in zip((first, run), outcomes, strict=True):
        if kept is None:
            return f"{one.name} has no per-example results, so evaluate it again"
    episodes = [
        str(one.outcomes.get(setting + OF_EPISODES, ""))
        for one, setting in ((first, first_name), (run, name))
    ]
    if episodes[0] != episodes[1]:
        return "they were tested in different episodes"
    if len({len(kept) for kept in outcomes if kept is not None}) > 1:
        return "they were tested on different numbers of examples"
    return ""


def as_text(rows: Sequence[Row]) -> str:
    """A table for people, in per cent."""
    lines = [["run", "seed", "step", "setting", "%", f"difference from {rows[0].run}, points", ""]]
    for row in rows:
        title = setting_title(row.setting)
        if row.metric != "accuracy":
            title += f", {metric_title(row.metric)}"
        half = "" if row.ci95 is None else f" ± {100 * row.ci95:.2f}"
        difference, kind = MISSING, ""
        if row.difference is not None and row.lower is None:
            difference = f"{100 * row.difference:+.2f}"
        elif row.difference is not None and row.lower is not None and row.upper is not None:
            ends = f"{100 * row.lower:+.2f} … {100 * row.upper:+.2f}"
            difference = f"{100 * row.difference:+.2f} ({ends})"
            kind = "paired" if row.paired else "unpaired"
        seed, step = (MISSING if number is None else str(number) for number in (row.seed, row.step))
        lines.append([row.run, seed, step, title, f"{100 * row.value:.2f}{half}", difference, kind])
    return aligned(lines)


def _settings(runs: Sequence[Run], asked: Sequence[str]) -> list[list[str]]:
    """The setting of each run, for each block of the table."""
    for run in runs:
        for name in asked:
            if name not in run.settings:
                raise UserError(
                    f"{run.name} has no setting {name!r}; it has {first_few(list(run.settings), 8)}."
                )
    shared = [name for name in runs[0].settings if all(name in run.settings for run in runs)]
    chosen = asked or shared
    return [[name] * len(runs) for name in chosen] or [[next(iter(run.settings)) for run in runs]]


def _row(run: Run, setting: str) -> Row:
    figures = run.settings[setting]
    names = [name for name in figures if not name.endswith("ci95") and name not in _COUNTS]
    if not names:
        raise UserError(f"The setting {setting!r} in {run.name} has no figures: evaluate the run again.")
    metric = "accuracy" if "accuracy" in names else names[0]
    ci95 = figures.get("ci95" if metric == "accuracy" else f"{metric}_ci95")
    count = next((int(figures[name]) for name in _COUNTS if name in figures), None)
    seed, step = (
        value if isinstance(value := run.results.get(name), int) else None for name in ("seed", "step")
    )
    return Row(
        run.name,
        str(run.results.get("config", "")),
        seed,
        step,
        setting,
        metric,
        figures[metric],
        ci95,
        count,
    )


def _with_difference(row: Row, first: Row, first_run: Run, run: Run, *, paired: bool) -> Row:
    difference = row.value - first.value
    lower = upper = None
    if paired:
        ours, theirs = _outcome(run, row.setting), _outcome(first_run, first.setting)
        assert ours is not None and theirs is not None
        difference, lower, upper = paired_bootstrap(ours, theirs)
    elif row.metric != first.metric:
        return row
    elif row.ci95 is not None and first.ci95 is not None:
        half = math.hypot(row.ci95, first.ci95)
        lower, upper = difference - half, difference + half
    return replace(row, difference=difference, lower=lower, upper=upper, paired=paired)


def _outcome(run: Run, setting: str) -> np.ndarray | None:
    """For each example or episode; None where it is not kept, or not what the figure was taken of."""
    kept = run.outcomes.get(setting)
    if kept is None or kept.ndim != 1 or not len(kept) or kept.dtype.kind not in "bf":
        return None
    values = kept.astype(np.float64)
    accuracy = run.settings[setting].get("accuracy", math.nan)
    return values if np.isfinite(values).all() and abs(values.mean() - accuracy) < 1e-6 else None


def _cells(row: Row) -> dict[str, object]:
    """A row by names; a figure that does not exist is None."""
    return {
        name: None if isinstance(cell, float) and not math.isfinite(cell) else cell
        for name, cell in asdict(row).items()
    }


def run(argv: Sequence[str] | None = None, program: str = "compare") -> int:
    """Prints the comparison that the arguments ask for; the exit status."""
    parser = Parser(program, "Compares runs: each with the first, on the same test images or episodes.")
    parser.add_argument("runs", metavar="RUN", nargs="+", help="workdirs, or output folders of an evaluation")
    parser.add_argument(
        "--setting", action="append", default=[], metavar="NAME",
        help="a setting of results.json; may be repeated; by default, all settings that the runs share",
    )  # fmt: skip
    parser.add_formats()
    given = parser.parse_intermixed_args(argv)
    rows, notes = compare(given.runs, given.setting)
    if given.json:
        print(json.dumps([_cells(row) for row in rows], indent=1, allow_nan=False))
    elif given.csv:
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(_cells(rows[0]))
        table.writerows(["" if cell is None else cell for cell in _cells(row).values()] for row in rows)
    else:
        print(as_text(rows))
    for note in notes:
        print(note, file=sys.stderr)
    return 0


def main() -> int:
    """Exit status: 0, or 2 where something asked for is impossible."""
    try:
        return run()
    except UserError as error:
        print(f"fsljax: {error}", file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    streams.use()
    sys.exit(main())
