"""Services that get a run's figures: Weights & Biases and MLflow, imported only where they are used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from absl import logging

from fsljax.errors import UserError
from fsljax.storage.json_files import read_checked, write_json

RUN = "tracker.json"
"""File of a workdir: which run of the service is its own, so that it goes on there."""

_NAMES = {"wandb": "Weights & Biases", "mlflow": "MLflow"}
_HELP = {
    "wandb": "log in with `wandb login`, or set WANDB_MODE=offline",
    "mlflow": "see MLFLOW_TRACKING_URI",
}


class Service(NamedTuple):
    """A run of a service.

    Attributes:
      run: its identity there.
      log: writes figures of a step.
      finish: ends it.
    """

    run: str
    log: Callable[[int, Mapping[str, float]], object]
    finish: Callable[[], object]


class Tracker:
    """Hands figures on to a service; one that fails costs a warning, and not the run.

    Args:
      service: what it hands them to.
      name: of the service.
    """

    def __init__(self, service: Service, name: str):
        self._service: Service | None = service
        self._name = name

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Writes figures of a step."""
        if self._service is not None:
            self._tried(lambda service: service.log(step, figures))

    def close(self) -> None:
        """Ends the run there."""
        self._tried(lambda service: service.finish())
        self._service = None

    def _tried(self, act: Callable[[Service], object]) -> None:
        try:
            if self._service is not None:
                act(self._service)
        except Exception as error:  # a service fails as many types
            logging.warning(
                "%s receives no more metrics (%s): training continues.", _NAMES[self._name], _words(error)
            )
            self._service = None


def start(
    to: str, project: str, name: str, folder: Path, config: Mapping[str, Any], *, new: bool
) -> Tracker | None:
    """What hands a run's figures on; None where TensorBoard's files are all that is asked for.

    Args:
      to: "tensorboard", "wandb" or "mlflow".
      project: of the service.
      name: of the run.
      folder: the workdir.
      config: its fields by dotted names.
      new: whether training begins; otherwise the run that the workdir has there goes on.

    Raises:
      UserError: if the package is missing, or the service cannot be reached.
    """
    if to not in _NAMES:
        return None
    try:
        package = importlib.import_module(to)
    except ImportError as error:
        raise UserError(
            f"config.log.to is {to!r}, but the package {to} cannot be imported ({_words(error)}): "
            f"pip install {to}."
        ) from error
    known = None if new else _known(folder, to)
    try:
        service = {"wandb": _wandb, "mlflow": _mlflow}[to](package, project, name, folder, config, known)
        write_json(folder / RUN, {"to": to, "run": service.run})
    except Exception as error:
        raise UserError(f"{_NAMES[to]} cannot be used ({_words(error)}): {_HELP[to]}.") from error
    return Tracker(service, to)


def _wandb(
    wandb: ModuleType, project: str, name: str, folder: Path, config: Mapping[str, Any], known: str | None
) -> Service:
    run = wandb.init(
        project=project, name=name, dir=str(folder), config=dict(config), id=known,
        resume="allow" if known else None,
    )  # fmt: skip
    return Service(run.id, lambda step, figures: run.log(dict(figures), step=step), run.finish)


def _mlflow(
    mlflow: ModuleType, project: str, name: str, folder: Path, config: Mapping[str, Any], known: str | None
) -> Service:
    mlflow.set_experiment(project)
    run = mlflow.start_run(run_id=known, run_name=None if known else name)
    if not known:
        mlflow.log_params(dict(config))
    return Service(
        run.info.run_id, lambda step, figures: mlflow.log_metrics(dict(figures), step=step), mlflow.end_run
    )


def _known(folder: Path, to: str) -> str | None:
    """The run of the service that a workdir is filed under; None if there is none, or it cannot be read."""
    try:
        kept = read_checked(folder / RUN)
    except (OSError, UserError):
        return None
    return kept["run"] if kept.get("to") == to and isinstance(kept.get("run"), str) else None


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.rstrip(".")[:300] or type(error).__name__
