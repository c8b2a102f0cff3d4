"""A run from its config to its report."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from fsljax import methods
from fsljax.config import Experiment, flat, plain
from fsljax.config.modules import check_imported
from fsljax.errors import UserError
from fsljax.networks import pretrained
from fsljax.parallel import processes
from fsljax.reporting.environment import describe_environment
from fsljax.reporting.report import write_report
from fsljax.reporting.sections import config_section, curves_section, environment_section, results_section
from fsljax.reporting.tables import headline, results_table
from fsljax.storage.json_files import write_json
from fsljax.storage.paths import given_path
from fsljax.training import devices, workdir
from fsljax.training.checkpoints import FOLDER, Checkpoints, Model
from fsljax.training.logs import read_history, write_embeddings
from fsljax.training.loop import check_source, train
from fsljax.training.method import Evaluation, Method
from fsljax.training.saved_model import LEARNED, write_classes
from fsljax.training.signals import Interruption, Stopped
from fsljax.training.state_items import digest, which_step

MODES = ("train_and_evaluate", "train", "evaluate")

# Fields whose values may be others in other processes of a run: where a host keeps what is read, and how.
_OF_A_HOST = {"data.data_dir", "data.path", "data.workers", "data.prefetch", "network.weights",
              "network.weights_revision", "network.init_from"}  # fmt: skip


def run(
    given: ConfigDict,
    *,
    mode: str,
    folder: Path,
    output: Path | None = None,
    interruption: Interruption | None = None,
    kept: Collection[str] = (),
    step: str = "best",
) -> None:
    """Trains, evaluates, or both, in the workdir `folder`; evaluation writes to `output`, else there.

    Of several processes (`fsljax.parallel.processes`) all call it; the first alone opens the workdir.

    Args:
      given: the config, as its file and the command line made it.
      mode: one of `MODES`.
      folder: the workdir.
      output: where evaluation writes; None: to the workdir.
      interruption: what hears signals, in place already; None: one for this run alone.
      kept: dotted names of the config's fields that stay whatever its weights say of themselves.
      step: the checkpoint that is evaluated: "best", "last", or the number of a step.

    Raises:
      UserError: if something asked for is impossible, said in one sentence.
      Stopped: if a signal ended the run early; what it had is on disk.
    """
    which = which_step(step, trained=mode == "evaluate")
    first = processes.is_first()
    begun = processes.from_first(_begun(folder) if first else None)
    with processes.together():
        config = methods.check(_as_begun(given, begun, kept), kept=kept)
        folder = given_path(folder, "--workdir")
        output = folder if output is None else given_path(output, "--output_dir")
        for used in (folder, output):
            workdir.check_name(used)
    facts = {"--mode": mode, "--step": step} | {
        name: v for name, v in flat(plain(config)).items() if name not in _OF_A_HOST
    }
    processes.check_alike("another config", facts)
    checkpoints = Checkpoints(folder, keep_last=config.checkpoint.keep_last)
    with processes.together():
        if first:
            _check_workdir(folder, config, checkpoints, mode, which)
    devices.use_compilation_cache()
    devices.use_random_kernel()
    with contextlib.ExitStack() as stack:
        if interruption is None:
            interruption = stack.enter_context(Interruption())
        with processes.together():
            if first:
                for used in {"train": {folder}, "evaluate": {output}}.get(mode, {folder, output}):
                    stack.enter_context(workdir.exclusive(used))
        with processes.together():
            data = methods.load(config)
            for note in data.notes if first else ():
                print(note, file=sys.stderr)
            method = methods.build(config, data)
            if mode == "train_and_evaluate":
                methods.check_test(method)
            images = data.fingerprints()
        processes.check_alike("on other images", {part: digest[:16] for part, digest in images.items()})
        _check_stop(interruption)
        with processes.together():
            if first:
                _open_workdir(folder, config, checkpoints, images, mode)
        if mode != "evaluate":
            train(method, config, folder, checkpoints, interruption, partial(_source_params, config))
            checkpoints.close()
        _check_stop(interruption)  # in the last steps, too, when there was nothing left to stop
        if mode != "train":
            evaluate(method, config, checkpoints, folder, output, images["test"], which)
        elif first:
            print(f"checkpoint  {folder / FOLDER / str(_best(checkpoints))}")


def evaluate(
    method: Method,
    config: Experiment,
    checkpoints: Checkpoints,
    folder: Path,
    output: Path,
    images: str,
    which: str | int = "best",
) -> None:
    """Evaluates a checkpoint; writes `results.json`, the report and the projector's files.

    Args:
      method, config, checkpoints: of the run.
      folder: its workdir.
      output: where to write.
      images: fingerprint of the test part.
      which: "best", "last", or the step of the checkpoint.

    Raises:
      UserError: if there is no checkpoint, or a file cannot be written; the results are printed all the same.
    """
    template = jax.jit(method.init)(jax.random.key(config.seed))
    model = Model(0, template.inference_variables())
    with processes.together():
        if processes.is_first():
            model = checkpoints.restore_best(template, which)
            named = "last checkpoint, that" if which == "last" else "checkpoint"
            print(f"evaluating the {named} of step {model.step} …", file=sys.stderr)
    variables = processes.arrays_from_first(model.variables, like=template.inference_variables())
    evaluation = method.evaluate(jax.device_put(variables))
    if not processes.is_first():
        return
    if output != folder or (which != "best" and model.step != checkpoints.best_step()):
        evaluation = evaluation._replace(
            learned=None
        )  # a classifier is kept beside the best checkpoint alone
    results = _results(config, model, evaluation, images) | ({} if which == "best" else {"checkpoint": which})
    results = workdir.merged(workdir.read_results(output), results)
    try:
        report = _write(results, evaluation, config, model, folder, output)
    except OSError as error:
        print(results_table(results, evaluation.published))
        raise UserError(
            f"{output} cannot be written ({error.strerror or error}): give another --output_dir."
        ) from error
    print(results_table(results, evaluation.published))
    for remark in evaluation.remarks:
        print(remark)
    if evaluation.learned is not None:
        print(f"classifier  {folder}")
    print(f"report      {report}")
    print(f"checkpoint  {folder / FOLDER / str(model.step)}")


def _write(
    results: dict[str, Any],
    evaluation: Evaluation,
    config: Experiment,
    model: Model,
    folder: Path,
    output: Path,
) -> Path:
    """Writes all that evaluation leaves; returns the report."""
    write_json(output / workdir.RESULTS, results)
    if evaluation.learned is not None:
        write_classes(folder / LEARNED, model, *evaluation.learned)
    if evaluation.correct:
        workdir.write_correct(output / workdir.CORRECT, evaluation.correct)
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
            environment_section(
                describe_environment(pretrained.identity(config.network)), command=["python", *sys.argv]
            ),
        ],
    )
    return report


def _begun(folder: Path) -> dict[str, Any] | None:
    """The config of the run in a workdir, if it has begun."""
    try:
        folder = given_path(folder, "--workdir")
        if workdir.has_config(folder) and Checkpoints(folder).selections():
            return workdir.read_config(folder)
    except UserError:  # which is told of where the workdir is opened
        pass
    return None


def _as_begun(given: ConfigDict, begun: dict[str, Any] | None, kept: Collection[str]) -> ConfigDict:
    """The config, filled as that of the run in its workdir: if it has begun, no weights are looked for."""
    try:
        return given if begun is None else pretrained.as_begun(given, begun, kept)
    except UserError:  # as above
        return given


def _check_stop(interruption: Interruption) -> None:
    """Raises `Stopped`, in all processes, if one was asked to stop."""
    if processes.any_of(interruption.requested):
        raise Stopped


def _check_workdir(
    folder: Path, config: Experiment, checkpoints: Checkpoints, mode: str, which: str | int
) -> None:
    """Raises a UserError if the workdir is another run's, or what the network begins with is missing."""
    if mode == "evaluate":
        _check_trained(folder, config)
        checkpoints.steps(which)
    elif workdir.has_config(folder) and checkpoints.selections():
        workdir.check_same(folder, config)
    if mode != "evaluate" and not checkpoints.selections():
        check_source(config)


def _open_workdir(
    folder: Path, config: Experiment, checkpoints: Checkpoints, images: dict[str, str], mode: str
) -> None:
    """Makes the workdir this run's, or says that its images are others than those to evaluate on."""
    if mode == "evaluate":
        if not workdir.same_images(folder, images):
            print(f"These images differ from those that the run in {folder} used.", file=sys.stderr)
        return
    if not checkpoints.selections():
        workdir.release(folder, config)
    elif not config.train.steps:
        workdir.forget_images(folder)
    workdir.claim(folder, config, images)


def _source_params(config: Experiment) -> tuple[str, ...]:
    """Parameters that are its method's in the run that `config.network.init_from` names."""
    if not config.network.init_from:
        return ()
    folder = given_path(config.network.init_from, "config.network.init_from")
    check_imported(method := workdir.read_config(folder).get("method"), folder / workdir.CONFIG)
    return methods.params_of(method)


def _check_trained(folder: Path, config: Experiment) -> None:
    if not workdir.has_config(folder):
        raise UserError(
            f"There is no run in {folder}: train first (--mode=train), or give the --workdir of a run."
        )
    workdir.check_same(folder, config)


def _best(checkpoints: Checkpoints) -> int:
    if (step := checkpoints.best_step()) is None:
        raise UserError(
            f"No checkpoint could be written to {checkpoints.folder}: free some space, then run again."
        )
    return step


def _results(config: Experiment, model: Model, evaluation: Evaluation, images: str) -> dict[str, Any]:
    return {
        "config": config.name,
        "step": model.step,
        "seed": config.seed,
        "model": digest(model.variables)[:16],
        "images": images[:16],
        **({"weights": weights} if (weights := pretrained.identity(config.network)) else {}),
        "test": evaluation.test,
        **evaluation.more,
    }


__all__ = ["MODES", "Stopped", "evaluate", "run"]
