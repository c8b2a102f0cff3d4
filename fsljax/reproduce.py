"""The tables of the README, made anew: `python -m fsljax.reproduce NAME [--config.x=y …]`.

Runs every config of a table with every seed, each in a workdir under runs/reproduce/NAME, then prints the
table.
A run that is complete is not repeated, one that was cut off goes on. Overrides reach every run.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fsljax.errors import UserError
from fsljax.evaluation.paired import bootstrap_ci95, paired_bootstrap

_RUNS = Path("runs/reproduce")


@dataclass(frozen=True)
class Row:
    """A method in a table.

    Attributes:
      name: as shown.
      config: file in configs/, without its ending.
      setting: of `results.json`, whose accuracy is shown.
      overrides: of the config.
      start: a run whose network this one begins with, instead of weights from a file.
    """

    name: str
    config: str
    setting: str
    overrides: tuple[str, ...] = ()
    start: Row | None = None


@dataclass(frozen=True)
class Table:
    """Methods under the same budget on the same test examples.

    Attributes:
      rows: the methods; the last is compared with each other one.
      seeds: each method is trained with every one.
      beside: setting and metric of `results.json` that are shown too, in per cent, as the mean over seeds.
    """

    rows: tuple[Row, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    beside: tuple[str, str] | None = None


@dataclass(frozen=True)
class DetectionTable:
    """RepMet's detector and its baselines in few-shot episodes.

    The baselines' detector differs in its head, which is linear, and is trained as long.

    Attributes:
      config: file in configs/, without its ending.
      shots, epochs: of fine-tuning; every pair of both is a row.
      seed: of both trainings.
    """

    config: str
    shots: tuple[int, ...] = (1, 5, 10)
    epochs: tuple[int, ...] = (0, 5)
    seed: int = 0

    @property
    def rows(self) -> tuple[Row, Row]:
        """What is trained: RepMet, and the detector of the baselines."""
        first = f"5way_{self.shots[0]}shot_ft{self.epochs[0]}"
        # One loss of classes less stands beside that of boxes.
        kind = ("--config.head.kind=linear", "--config.loss.linear=0.0", "--config.loss.boxes=1.0")
        linear = Row("linear head", self.config, "base", kind)
        return Row("RepMet", self.config, first), linear

    def run(self, folder: Path, overrides: Sequence[str]) -> Path:
        """Trains and evaluates what is missing; returns RepMet's workdir."""
        repmet, linear = self.rows
        workdirs = {row.name: _workdir(folder, row, self.seed, overrides) for row in self.rows}
        common = (*overrides, f"--config.seed={self.seed}")
        for row in self.rows:
            given = (*row.overrides, *common, "--config.eval.episodes=0")
            _launch(f"training {row.name}", _config_file(row), workdirs[row.name], given, "results.json")
        shots, epochs = (",".join(map(str, of)) for of in (self.shots, self.epochs))
        asked = (f"--config.eval.shots={shots}", f"--config.eval.fine_tune_epochs={epochs}")
        evaluations = {
            "distractors": ("--config.eval.distractors=True",),
            "distance": (f"--config.eval.baseline={workdirs[linear.name]}", "--config.eval.ceiling=True"),
        }
        for name, more in evaluations.items():
            given = (*common, "--mode=evaluate", *asked, *more)
            setting = f"{repmet.setting}_{name}"
            _launch(
                f"episodes, {name}",
                _config_file(repmet),
                workdirs[repmet.name],
                given,
                "results.json",
                setting,
            )
        return workdirs[repmet.name]


def _three(task: str, settings: tuple[str, str, str], overrides: tuple[str, ...] = ()) -> Table:
    methods = ("softmax", "triplet", "magnet")
    rows = [
        Row(method, f"{method}_{task}", setting, overrides)
        for method, setting in zip(methods, settings, strict=True)
    ]
    return Table(tuple(rows))


def _repmet_flowers(k: int, version: str) -> Row:
    """The margin compares nearest representatives, and has no posterior of its own."""
    setting = "nearest_representative" if version == "margin" else "soft_posterior"
    overrides = (*_ON_BOTH, f"--config.loss.version={version}")
    return Row(f"RepMet {version}, k = {k}", f"repmet_flowers_mnv2F_{k}_12_4", setting, overrides)


def _repmet_omniglot(merge: str) -> Table:
    overrides = (f"--config.data.merge={merge}",)
    rows = [
        Row(f"RepMet, k = {k}", f"repmet_omniglot_{k}_48_4", "soft_posterior", overrides) for k in (1, 3, 5)
    ]
    return Table(tuple(rows), seeds=(0,), beside=("nearest_representative", "purity"))


def _recovery_after_softmax(task: str, merge: str, first: int, then: int, k: int) -> Table:
    """Magnet with k clusters a class after so many steps of softmax; softmax and triplet all the way."""
    merged, setting = f"--config.data.merge={merge}", "hierarchy_recovery"
    clusters = (f"--config.train.clusters_per_class={k}", f"--config.eval.clusters_per_class={k}")
    batches = ("--config.train.clusters=24", "--config.train.examples=2", "--config.train.refresh_every=200")
    magnet = (merged, f"--config.train.steps={then}", *batches, *clusters)
    start = Row("softmax", f"softmax_{task}", setting, (merged, f"--config.train.steps={first}"))
    whole = (merged, f"--config.train.steps={first + then}")
    return Table(
        (
            Row("softmax", f"softmax_{task}", setting, whole),
            Row("triplet", f"triplet_{task}", setting, whole),
            Row(f"magnet after softmax, k = {k}", f"magnet_{task}", setting, magnet, start),
        )
    )


_ON_BOTH = ("--config.data.train_on=train_and_validation",)
_HALF = "--config.train.steps=600"
_FLOWERS = ("softmax", "nearest_cluster", "nearest_cluster")
_RECOVERY = ("hierarchy_recovery",) * 3
_ON_FLOWERS = (
    Row("logistic regression", "softmax_flowers_mnv2F_1_12_4", "logistic_regression", _ON_BOTH),
    Row("nearest class mean", "softmax_flowers_mnv2F_1_12_4", "nearest_class_mean", _ON_BOTH),
    *_three("flowers_mnv2F_1_12_4", _FLOWERS, _ON_BOTH).rows,
    Row(
        "magnet after softmax",
        "magnet_flowers_mnv2F_1_24_2",
        "nearest_cluster",
        _ON_BOTH,
        Row("softmax", "softmax_flowers_mnv2F_1_12_4", "softmax", (*_ON_BOTH, _HALF)),
    ),
)
TABLES: dict[str, Table | DetectionTable] = {
    "flowers": Table(_ON_FLOWERS),
    "glyphs": _three("glyphs_2", _FLOWERS),
    "hierarchy_omniglot_pairs": _three("omniglot_2_12_4", _RECOVERY, ("--config.data.merge=pairs",)),
    "hierarchy_omniglot_alphabets": _recovery_after_softmax("omniglot_2_12_4", "alphabets", 2_000, 1_000, 32),
    "hierarchy_tiny_imagenet": _recovery_after_softmax("tiny_imagenet_2_12_4", "pairs", 750, 750, 2),
    "repmet_flowers": Table(
        (*_ON_FLOWERS, *(_repmet_flowers(k, version) for version in ("margin", "v1", "v2") for k in (1, 3)))
    ),
    "repmet_detection_scenes": DetectionTable("repmet_detection_scenes"),
    "repmet_omniglot_pairs": _repmet_omniglot("pairs"),
    "repmet_omniglot_alphabets": _repmet_omniglot("alphabets"),
}


def reproduce(name: str, overrides: list[str]) -> None:
    """Runs what is missing of a table, and prints it.

    Raises:
      UserError: if there is no such table, no configs here, or a run fails.
    """
    if name not in TABLES:
        raise UserError(f"There is no table {name!r}; there are {', '.join(TABLES)}.")
    if not Path("launch.py").exists():
        raise UserError(
            "There is no launch.py here: run this in the folder that holds launch.py and configs/."
        )
    table = TABLES[name]
    if isinstance(table, DetectionTable):
        print(_detection_text(table, table.run(_RUNS / name, overrides)))
        return
    correct, beside = {}, {}
    for row in table.rows:
        runs = [_run(_RUNS / name, row, seed, overrides) for seed in table.seeds]
        correct[row.name] = np.stack([_correct(run, row.setting) for run in runs])
        if table.beside:
            beside[row.name] = float(np.mean([_figure(run, *table.beside) for run in runs]))
    print(_text(table, correct, beside))


def _correct(workdir: Path, setting: str) -> np.ndarray:
    """Which test examples a run classified rightly, bool `[n]`."""
    with np.load(workdir / "correct.npz") as arrays:
        if setting not in arrays:
            raise UserError(f"{workdir} has no setting {setting!r}: evaluate it anew.")
        return arrays[setting]


def _run(folder: Path, row: Row, seed: int, overrides: list[str]) -> Path:
    """Trains and evaluates unless that is done; returns the workdir."""
    if row.start:
        start = _run(folder, row.start, seed, overrides)
        weights = "--config.network.weights="
        overrides = [one for one in overrides if not one.startswith(weights)]
        overrides.append(f"--config.network.init_from={start}")
    # Rows that differ in the setting alone share their runs.
    workdir = _workdir(folder, row, seed, overrides)
    given = (*row.overrides, *overrides, f"--config.seed={seed}")
    _launch(f"{row.name}, seed {seed}", _config_file(row), workdir, given, "correct.npz")
    return workdir


def _workdir(folder: Path, row: Row, seed: int, overrides: Sequence[str]) -> Path:
    told = repr((row.config, row.overrides, list(overrides)))
    return folder / f"{row.config}-{hashlib.sha256(told.encode()).hexdigest()[:8]}-{seed}"


def _launch(
    name: str, config: Path, workdir: Path, given: Sequence[str], product: str, setting: str | None = None
) -> None:
    """Runs launch.py unless that was done, as a file in the workdir tells.

    Args:
      name: what is said to be done.
      config: of the run.
      workdir: of the run.
      given: further arguments.
      product: file that the run ends with.
      setting: of `results.json`, that the run adds; None: the whole product is made anew.
    """
    command = [sys.executable, "launch.py", f"--config={config}", f"--workdir={workdir}", *given]
    told = workdir / ("reproduced.json" if setting is None else f"reproduced_{setting}.json")
    wanted = {"command": command, "config": hashlib.sha256(config.read_bytes()).hexdigest()}
    if told.exists() and json.loads(told.read_text()) == wanted:
        return
    print(f"{name} …", file=sys.stderr, flush=True)
    if setting is None:
        (workdir / product).unlink(missing_ok=True)
    status = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    if status:
        raise UserError(f"{' '.join(command)} ended with status {status}.")
    if not (workdir / product).exists() or (setting and setting not in _settings(workdir)):
        raise UserError(f"The run in {workdir} was stopped: give the same command again to go on.")
    told.write_text(json.dumps(wanted))


def _settings(workdir: Path) -> dict[str, dict[str, float]]:
    return json.loads((workdir / "results.json").read_text())["test"]


def _detection_text(table: DetectionTable, workdir: Path) -> str:
    """Every rule in every column, and how far RepMet is above the baselines; then what belongs to RepMet."""
    test = _settings(workdir)

    def cell(setting: str, metric: str) -> str:
        of = test.get(setting, {})
        return f"{100 * of[metric]:.1f} ± {100 * of[f'{metric}_ci95']:.1f}" if metric in of else "–"

    texts = []
    for metric in ("ap50_pooled", "map50"):
        header = [f"{metric}, %", "RepMet"]
        for rule in ("distance", "vanilla"):
            header += [rule, "RepMet above by"]
        rows = [[*header, "with distractors", "ceiling"]]
        for epochs, shots in itertools.product(table.epochs, table.shots):
            setting = f"5way_{shots}shot_ft{epochs}"
            row = [f"{shots}-shot" + (f", {epochs} epochs" if epochs else ""), cell(setting, metric)]
            for rule in ("distance", "vanilla"):
                row += [cell(f"{setting}_{rule}", metric), cell(f"{setting}_{rule}", f"{metric}_below")]
            others = [cell(f"{setting}_{rule}", metric) for rule in ("distractors", "ceiling")]
            rows.append([*row, *others])
        texts.append(_aligned(rows))
    return "\n\n".join(texts)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, the first row under a rule."""
    widths = [max(len(line[column]) for line in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in rows]
    lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def _figure(workdir: Path, setting: str, metric: str) -> float:
    return _settings(workdir)[setting][metric]


def _config_file(row: Row) -> Path:
    return Path("configs") / f"{row.config}.py"


def _text(table: Table, correct: dict[str, np.ndarray], beside: dict[str, float] | None = None) -> str:
    """The table: error of each method, and how far the last is from each other one."""
    last = table.rows[-1].name
    header = ["method", "setting", "error, %", "by seed", f"{last} better by, points"]
    if beside and table.beside:
        header.insert(4, f"{table.beside[1].replace('_', ' ')}, %")
    rows: list[list[Any]] = []
    for row in table.rows:
        right = correct[row.name]
        ci95 = bootstrap_ci95(right.mean(axis=0))
        difference = "–"
        if row.name != last:
            found = paired_bootstrap(correct[last], right)
            difference = (
                f"{100 * found.difference:+.2f} ({100 * found.lower:+.2f} … {100 * found.upper:+.2f})"
            )
        by_seed = " ".join(f"{100 * (1 - one.mean()):.2f}" for one in right)
        error = f"{100 * (1 - right.mean()):.2f} ± {100 * ci95:.2f}"
        rows.append([row.name, row.setting.replace("_", " "), error, by_seed, difference])
        if beside:
            rows[-1].insert(4, f"{100 * beside[row.name]:.2f}")
    return _aligned([header, *rows])


def main(argv: list[str]) -> int:
    """Exit status: 0, or 2 where something asked for is impossible."""
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__)
        print("tables:", ", ".join(TABLES))
        return 0 if argv else 2
    try:
        reproduce(argv[0], argv[1:])
    except UserError as error:
        print(f"fsljax: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("Stopped. Give the same command again to go on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
