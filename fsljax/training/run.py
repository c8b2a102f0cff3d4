"""A run from its config to its report."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from fsljax import data, methods
from fsljax.config import plain
from fsljax.errors import UserError
from fsljax.methods import Evaluation, Method
from fsljax.reporting.report import write_report
from fsljax.reporting.sections import config_section, curves_section, environment_section, results_section
from fsljax.reporting.tables import headline, results_table
from fsljax.training import devices, workdir
from fsljax.training.checkpoints import Checkpoints, Model
from fsljax.training.interruption import Interruption, Stopped
from fsljax.training.loop import train
from fsljax.training.metrics_log import read_history, write_embeddings

MODES = ("train_and_evaluate", "train", "evaluate")


def run(config: ConfigDict, *, mode: str, folder: Path, output: Path | None = None) -> None:
    """Trains, evaluates, or both, in the workdir `folder`; evaluation writes to `output`, else there.

    Raises:
      UserError: if something asked for is impossible, said in one sentence.
      Stopped: if a signal ended the run early; what it had is on disk.
    """
    methods.check(config)
    if mode == "evaluate":
        _check_trained(folder, config)
    elif (folder / workdir.CONFIG).exists():
        workdir.check_same(folder, config)
    devices.use_compilation_cache()
    output = output or folder
    with Interruption() as interruption, workdir.exclusive(output if mode == "evaluate" else folder):
        splits = data.load(config)
        for note in splits.notes:
            print(note, file=sys.stderr)
        method = methods.build(config, splits)
        checkpoints = Checkpoints(folder, keep_last=config.checkpoint.keep_last)
        if mode != "evaluate":
            workdir.claim(folder, config)
            train(method, config, folder, checkpoints, interruption)
            checkpoints.close()
        if mode == "train":
            print(f"checkpoint  {checkpoints.path(_best(checkpoints))}")
        else:
            if interruption.requested:  # in the last steps, when there was nothing left to stop
                raise Stopped
            evaluate(method, config, checkpoints, folder, output)


def evaluate(
    method: Method, config: ConfigDict, checkpoints: Checkpoints, folder: Path, output: Path
) -> None:
    """Evaluates the best checkpoint; writes `results.json`, the report and the projector's files."""
    model = checkpoints.restore_best(jax.jit(method.init)(jax.random.key(config.seed)))
    print(f"evaluating the checkpoint of step {model.step} …", file=sys.stderr)
    evaluation = method.evaluate(jax.device_put(model.variables))
    results = _merged(workdir.read_results(output), _results(config, model, evaluation))
    output.mkdir(parents=True, exist_ok=True)
    workdir.write_json(output / workdir.RESULTS, results)
    names = [evaluation.shown.class_names[label] for label in evaluation.shown.labels]
    write_embeddings(output, evaluation.embeddings, names, evaluation.shown.images)
    report = output / "report.html"
    write_report(
        report,
        title=config.name,
        headline=headline(results),
        facts={"date": f"{datetime.now(UTC):%Y-%m-%d}", "seed": config.seed, "steps": model.step},
        sections=[
            results_section(results, evaluation.published),
            curves_section(read_history(folder)),
            *evaluation.sections,
            config_section(plain(config)),
            environment_section(command=["python", *sys.argv]),
        ],
    )
    print(results_table(results, evaluation.published))
    print(f"report      {report}")
    print(f"checkpoint  {checkpoints.path(model.step)}")


def _check_trained(folder: Path, config: ConfigDict) -> None:
    if not (folder / workdir.CONFIG).exists():
        raise UserError(
            f"There is no run in {folder}: train first (--mode=train), or give the --workdir of a run."
        )
    workdir.check_same(folder, config)


def _best(checkpoints: Checkpoints) -> int:
    step = checkpoints.best_step()
    if step is None:
        raise UserError(
            f"No checkpoint could be written to {checkpoints.folder}: free some space, then run again."
        )
    return step


def _results(config: ConfigDict, model: Model, evaluation: Evaluation) -> dict[str, Any]:
    return {"config": config.name, "step": model.step, "seed": config.seed, "test": evaluation.test}


def _merged(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Settings of an earlier evaluation of the same checkpoint stay beside those of this one."""
    if any(before.get(name) != now[name] for name in ("config", "step", "seed")):
        return now
    return {**now, "test": {**before.get("test", {}), **now["test"]}}


__all__ = ["MODES", "Stopped", "evaluate", "run"]
