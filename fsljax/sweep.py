"""One experiment with several values of its fields: fsljax sweep, or python -m fsljax.sweep

    fsljax sweep --config=quickstart --over train.learning_rate=1e-3,2e-3 --over train.way=20,30

Trains every combination, or --samples of them drawn at random, each in a workdir of its own under
runs/sweeps/NAME. A run that is complete is not repeated and one that was stopped is resumed when the same
command is given again. Flags such as --config.train.steps=100 or --mode=train reach every run.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fsljax import compare
from fsljax.arguments import Parser, positive
from fsljax.config import experiments, flat, nearest
from fsljax.config.reading import as_mapping
from fsljax.errors import UserError, first_few
from fsljax.reporting import streams
from fsljax.reporting.tables import MISSING, aligned
from fsljax.storage.json_files import read_checked, read_json, write_json
from fsljax.storage.paths import given_path
from fsljax.training.logs import validations
from fsljax.training.signals import Stopped, handled_by
from fsljax.training.workdir import RESULTS

_RECORD = "swept.json"
_SECONDS_BETWEEN_LOOKS = 0.2
_COMMA = re.compile(r",(?![^(\[]*[)\]])")  # outside of brackets


class Trial(NamedTuple):
    """A run of a sweep.

    Attributes:
      values: text of each field that is swept.
      workdir: of the run.
      command: that trains it.
    """

    values: dict[str, str]
    workdir: Path
    command: list[str]

    @property
    def log(self) -> Path:
        return self.workdir.with_name(f"{self.workdir.name}.log")

    def __str__(self) -> str:
        return "  ".join(f"{name}={value}" for name, value in self.values.items())


def choices_of(given: Sequence[str], file: str | None) -> dict[str, list[str]]:
    """The values of each field that is swept.

    Args:
      given: each `FIELD=VALUE,VALUE…`; a comma in brackets does not separate.
      file: a JSON file, `{FIELD: [VALUE, …]}`, to which `given` is added.

    Raises:
      UserError: if they cannot be read, or a field has no values.
    """
    choices: dict[str, list[str]] = {}
    if file is not None:
        try:
            content = read_json(given_path(file, "--file"))
        except FileNotFoundError:
            raise UserError(
                f"There is no file {file}: give --file=FILE.json, or --over FIELD=VALUES."
            ) from None
        if not isinstance(content, dict) or not all(
            isinstance(one, list) and one for one in content.values()
        ):
            raise UserError(f'{file} must hold a list of values for each field: {{"train.way": [20, 30]}}.')
        choices = {
            name: [one if isinstance(one, str) else _as_flag(one) for one in values]
            for name, values in content.items()
        }
    for one in given:
        name, equals, text = one.partition("=")
        name = name.removeprefix("--").removeprefix("config.")
        values = [value.strip() for value in _COMMA.split(text)]
        if not equals or not all(values):
            raise UserError(f"--over {one} cannot be read: give FIELD=VALUE,VALUE, such as train.way=20,30.")
        choices[name] = list(dict.fromkeys(values))
    if not choices:
        raise UserError("Nothing varies: give --over FIELD=VALUE,VALUE at least once, or --file.")
    return choices


def trials_of(
    config: str,
    choices: Mapping[str, Sequence[str]],
    folder: Path,
    flags: Sequence[str],
    *,
    samples: int | None = None,
    seed: int = 0,
) -> list[Trial]:
    """The runs of a sweep: every combination, or `samples` different ones drawn at random.

    Raises:
      UserError: if the config cannot be read, or lacks a field.
    """
    known = [*flat(as_mapping(experiments.load(config)))]
    for name in choices:
        if name not in known:
            raise UserError(f"Unknown field config.{name} of {config}.{nearest(name, known)}")
        if any(flag.lstrip("-").partition("=")[0] == f"config.{name}" for flag in flags):
            raise UserError(f"config.{name} is given by --over and by a flag: give it once.")
    combinations = list(itertools.product(*choices.values()))
    if samples is not None and samples < len(combinations):
        chosen = random.Random(seed).sample(range(len(combinations)), samples)
        combinations = [combinations[number] for number in sorted(chosen)]
    return [_trial(config, dict(zip(choices, values, strict=True)), folder, flags) for values in combinations]


def _trial(config: str, values: dict[str, str], folder: Path, flags: Sequence[str]) -> Trial:
    own = [f"--config.{name}={value}" for name, value in values.items()]
    identity = hashlib.sha256(json.dumps([config, own, list(flags)]).encode()).hexdigest()[:8]
    words = [f"{name.rpartition('.')[2]}={value}" for name, value in values.items()]
    workdir = folder / f"{re.sub(r'[^A-Za-z0-9_.=-]+', '_', '-'.join(words))[:80]}-{identity}"
    command = [
        sys.executable, "-m", "fsljax", "train", f"--config={config}", f"--workdir={workdir}", *flags, *own
    ]  # fmt: skip
    return Trial(values, workdir, command)


def run_trials(trials: Sequence[Trial], jobs: int) -> list[Trial]:
    """Runs those that are not complete, `jobs` at a time; returns the ones that failed.

    Raises:
      Stopped: if a signal asked for it; runs under way have saved their states.
    """
    waiting = [trial for trial in trials if not is_complete(trial)]
    if len(waiting) < len(trials):
        print(f"{len(trials) - len(waiting)} of {len(trials)} runs are complete", file=sys.stderr)
    running: dict[subprocess.Popen[bytes], Trial] = {}
    failed: list[Trial] = []
    requests: list[int] = []
    asked: list[subprocess.Popen[bytes]] = []
    with handled_by(lambda number, frame: requests.append(number)):
        while running or (waiting and not requests):
            while waiting and len(running) < jobs and not requests:
                trial = waiting.pop(0)
                print(f"[{len(trials) - len(waiting)}/{len(trials)}] {trial}", file=sys.stderr, flush=True)
                running[_started(trial)] = trial
            for process in list(running) if requests else ():
                if process not in asked:  # a second request would end it at once
                    asked.append(process)
                    process.terminate()
            for process in [process for process in running if process.poll() is not None]:
                trial = running.pop(process)
                if process.returncode:
                    failed.append(trial)
                    print(f"failed: {trial} (see {trial.log})", file=sys.stderr, flush=True)
                elif not _was_stopped(trial):
                    write_json(trial.workdir / _RECORD, {"command": trial.command[1:]})
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    if requests:
        raise Stopped
    return failed


def is_complete(trial: Trial) -> bool:
    """Whether a run has ended as this command asks."""
    try:
        return read_checked(trial.workdir / _RECORD).get("command") == trial.command[1:]
    except (OSError, UserError):
        return False


def _was_stopped(trial: Trial) -> bool:
    """Whether a run that ended well was stopped on its way, by us or by others."""
    last = trial.log.read_text(encoding="utf-8", errors="replace").splitlines()[-2:]
    return any(line.startswith("Stopped") for line in last)


def _started(trial: Trial) -> subprocess.Popen[bytes]:
    trial.workdir.parent.mkdir(parents=True, exist_ok=True)
    # A group of its own: Ctrl-C must reach it once, from here, for after a second request it saves nothing.
    group = {"process_group": 0} if sys.platform != "win32" else {}
    with trial.log.open("ab") as log:
        return subprocess.Popen(
            trial.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **group  # type: ignore[call-overload]
        )  # fmt: skip


def table(trials: Sequence[Trial]) -> str:
    """What was swept and the best validation of each run, best first; then the comparison of their tests."""
    best = {trial.workdir: max(validations(trial.workdir), default=None) for trial in trials}
    ordered = sorted(trials, key=lambda trial: -(best[trial.workdir] or 0.0))
    lines = [[*trials[0].values, "best validation", "workdir"]]
    for trial in ordered:
        figure = best[trial.workdir]
        shown = MISSING if figure is None else f"{figure:.4f}"
        lines.append([*trial.values.values(), shown, str(trial.workdir)])
    tested = [trial.workdir for trial in ordered if (trial.workdir / RESULTS).is_file()]
    parts = [aligned(lines)]
    if len(tested) > 1:
        rows, notes = compare.compare(tested)
        parts += [compare.as_text(rows), *notes]
    return "\n\n".join(parts)


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the sweep that the arguments ask for, and prints its table.

    Exit status: 0; 1: a run failed; 2: something asked for is impossible; 130: stopped.
    """
    parser = Parser(
        "sweep", "Trains an experiment with several values of its fields, then compares the runs."
    )
    parser.epilog = (
        "Any other flag of `fsljax train`, such as --config.train.steps=100, is passed to every run."
    )
    parser.add_argument("--config", required=True, help="the experiment, as for fsljax train")
    parser.add_argument("--over", action="append", default=[], metavar="FIELD=VALUES",
                        help="values of a field, separated by commas; may be repeated")  # fmt: skip
    parser.add_argument("--file", metavar="FILE", help="a JSON file of the same: {FIELD: [VALUE, …]}")
    parser.add_argument("--samples", type=positive, metavar="N", help="draw N of the combinations at random")
    parser.add_argument("--seed", type=int, default=0, help="seed of that draw")
    parser.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="number of runs at a time; 1 by default"
    )
    parser.add_argument("--folder", help="folder for the workdirs; runs/sweeps/CONFIG by default")
    given, flags = parser.parse_known_args(argv)
    try:
        for flag in flags:
            if not flag.startswith("-") or flag.lstrip("-").partition("=")[0] in ("workdir", "output_dir"):
                raise UserError(
                    f"fsljax sweep does not accept {flag}: give flags of fsljax train as --NAME=VALUE."
                )
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", Path(given.config.partition(":")[0]).stem)
        folder = given_path(given.folder or Path("runs/sweeps") / name, "--folder")
        choices = choices_of(given.over, given.file)
        trials = trials_of(given.config, choices, folder, flags, samples=given.samples, seed=given.seed)
        failed = run_trials(trials, given.jobs)
        done = [trial for trial in trials if trial not in failed]
        if done:
            print(table(done))
        if failed:
            logs = first_few([str(trial.log) for trial in failed])
            print(f"fsljax: {len(failed)} of {len(trials)} runs failed: see {logs}.", file=sys.stderr)
    except UserError as error:
        print(f"fsljax: {error}", file=sys.stderr)
        return error.exit_status
    except OSError as error:
        print(f"fsljax: {error.filename} cannot be written ({error.strerror}).", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Stopped):
        print("Stopped. Run the same command again to continue.", file=sys.stderr)
        return 130
    return int(bool(failed))


def _as_flag(value: object) -> str:
    return str(tuple(value)) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    streams.use()
    sys.exit(run())
