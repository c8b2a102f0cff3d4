"""Checkpoints: the last few and the best, written in the background, verified when read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from fsljax.errors import DivergedError, NotSavedError, UserError
from fsljax.networks.variables import Variables
from fsljax.storage.orbax_failures import only_raised, reason_of, remove_remains
from fsljax.storage.paths import is_there, move_into
from fsljax.training.state import TrainState
from fsljax.training.state_items import (
    Items,
    assembled,
    by_this_process,
    checked_about,
    digest,
    in_order,
    items_of,
    on_host,
    save_args,
)

FOLDER = "checkpoints"


class Model(NamedTuple):
    """What evaluation needs of a checkpoint: its step, and the network's variables."""

    step: int
    variables: Variables


class Checkpoints:
    """The checkpoints of one workdir.

    Each holds `model` (the variables for evaluation), `training` (the rest of the state; shipped models
    have none) and `about` (the figure that chooses the best, a digest of every array, and one of these).
    """

    def __init__(self, workdir: Path, *, keep_last: int = 2):
        self.folder = workdir.absolute() / FOLDER
        self._keep_last = keep_last
        self._selections: dict[int, float | None] | None = None
        self._without_about: list[int] = []
        self._unfinished: int | None = None
        self._writing = contextlib.ExitStack()
        self._manager: ocp.CheckpointManager | None = None

    def save(self, state: TrainState, selection: float | None) -> None:
        """Starts writing a checkpoint.

        Args:
          state: at the step it will be filed under.
          selection: the higher, the better; None if this state was not validated.

        Raises:
          DivergedError: if a parameter is not finite; what is on disk stays as it is.
        """
        step = int(state.step)
        self.wait()
        items = items_of(state)
        for array in jax.tree.leaves(items["model"]):
            if not np.isfinite(array).all():
                raise DivergedError(
                    f"The parameters are no longer finite at step {step}: the run stops. "
                    f"{self.describe_last()} Try a lower config.train.learning_rate."
                )
        if step in self.selections():
            return
        self._unfinished = step
        self.selections()[step] = selection
        self._writing.enter_context(only_raised())
        try:
            self._writer().save(step, args=save_args(items, selection), force=True)
        except (OSError, ValueError) as error:
            self._failed(error)

    def wait(self) -> None:
        """Waits for the checkpoint being written, then deletes those no longer needed."""
        if self._unfinished is None:
            return
        try:
            self._writer().wait_until_finished()
            self._writer().check_for_errors()
        except Exception as error:  # what fails in its threads comes as many types
            self._failed(error)
            return
        self._unfinished = None
        self._writing.close()
        selections = self.selections()
        keep = {*sorted(selections)[-self._keep_last :], *self.steps()[:1]}
        for step in set(selections) - keep:
            try:
                self._writer().delete(step)
            except Exception as error:  # as above
                logging.warning("%s cannot be deleted (%s).", self.path(step), reason_of(error))
            del selections[step]

    def _failed(self, error: Exception) -> None:
        """A full disk must not end a run: the checkpoints before this one stay, the next may succeed."""
        step, self._unfinished = self._unfinished, None
        if step is not None:
            self.selections().pop(step, None)
            remove_remains(self.folder, step)
        self._manager = None
        self._writing.close()
        logging.warning(
            "The checkpoint of step %s could not be written (%s): training continues.", step, reason_of(error)
        )

    def restore_last(self, template: TrainState) -> TrainState | None:
        """The newest state that can be read, or None; damaged ones are put aside, and named.

        Args:
          template: a state of the same structure.

        Raises:
          UserError: if the folder holds a shipped model, which has no training to go on with.
        """
        for step in self.selections():
            if (self.path(step) / "model").exists() and not (self.path(step) / "training").exists():
                raise UserError(
                    f"{self.path(step)} is a model without its training state: evaluate it with "
                    "--mode=evaluate, or give another --workdir."
                )
        while self._without_about:
            self._put_aside(self._without_about.pop())
        for step in sorted(self.selections(), reverse=True):
            try:
                items = self._read(step, items_of(template))
            except Exception as error:  # damage comes as many types
                logging.warning("%s", self._damage(step, error))
                self._put_aside(step)
                continue
            return assembled(template, items)
        return None

    def restore_model(self) -> Model:
        """The variables of the best checkpoint that can be read, whatever their structure.

        Raises:
          UserError: if there is none.
        """
        return self._first_of(self.steps(), lambda step: {"model": None})

    def restore_best(self, template: TrainState, which: str | int = "best") -> Model:
        """The model of the best checkpoint that can be read; damaged ones are skipped, and named.

        Args:
          template: a state of the same structure.
          which: instead of the best the "last", or that of a step.

        Raises:
          UserError: if there is none.
        """
        items = items_of(template)
        shipped = {"model": items["model"]}
        return self._first_of(
            self.steps(which), lambda step: items if (self.path(step) / "training").exists() else shipped
        )

    def _first_of(self, steps: Sequence[int], templates: Callable[[int], Items]) -> Model:
        for step in steps:
            try:
                items = self._read(step, templates(step))
            except Exception as error:  # damage comes as many types
                logging.warning("%s", self._damage(step, error))
                continue
            return Model(step, items["model"])
        raise UserError(
            f"There is no readable checkpoint in {self.folder}: train first (--mode=train), or give the "
            "--workdir of a run."
        )

    def write_model(self, model: Model, selection: float | None) -> None:
        """Writes parameters and batch statistics alone, as a shipped model.

        Raises:
          OSError: if the disk is full, or cannot be written.
        """
        item = on_host(model.variables)
        with only_raised():
            try:
                self._writer().save(model.step, args=save_args({"model": item}, selection), force=True)
                self._writer().wait_until_finished()
            except Exception as error:  # as in `wait`
                self._manager = None
                remove_remains(self.folder, model.step)
                raise OSError(reason_of(error)) from error

    def selections(self) -> dict[int, float | None]:
        """Steps of all checkpoints, with the figure that each was chosen by."""
        if self._selections is None:
            self._selections = {}
            steps = self._steps()
            for half_written in sorted(self.folder.glob("*orbax-checkpoint-tmp*")):
                logging.warning("The checkpoint %s is incomplete: it is skipped.", half_written)
            for step in steps:
                try:
                    self._selections[step] = self._about(step)["selection"]
                except Exception as error:  # damage comes as many types
                    logging.warning("%s", self._damage(step, error))
                    self._without_about.append(step)
        return self._selections

    def best_step(self) -> int | None:
        """Step of the best checkpoint, or None."""
        return next(iter(self.steps()), None)

    def check_saved(self, step: int) -> None:
        """Raises a NotSavedError if there is no checkpoint of this step."""
        self.wait()
        if step not in self.selections():
            raise NotSavedError(
                f"The state of step {step} could not be saved. {self.describe_last()} Free some space, and "
                "run the same command again: it continues from there."
            )

    def path(self, step: int) -> Path:
        """Folder of a checkpoint."""
        return self.folder / str(step)

    def describe_last(self) -> str:
        """A sentence that says where the newest checkpoint is."""
        self.wait()
        steps = self.selections()
        return f"The last checkpoint is {self.path(max(steps))}." if steps else "There is no checkpoint yet."

    def close(self) -> None:
        """Waits for what is being written."""
        self.wait()
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def steps(self, which: str | int = "best") -> list[int]:
        """Steps of the checkpoints to try, in this order; see `in_order`."""
        return in_order(self.selections(), which, self.folder)

    def _read(self, step: int, templates: Items) -> Items:
        args = {name: ocp.args.StandardRestore(template) for name, template in templates.items()}
        restored = self._reader().restore(step, args=ocp.args.Composite(**args))
        digests = self._about(step)["digests"]
        for name in templates:
            if digests[name] != digest(restored[name]):
                raise ValueError(f"the arrays of {name!r} differ from those that were written")
        return {name: on_host(restored[name]) for name in templates}

    def _steps(self) -> list[int]:
        """Of all checkpoints that are there; a UserError if the folder may not be read."""
        if not is_there(self.folder, "The folder of checkpoints"):
            return []
        try:
            return sorted(self._reader().all_steps())
        except OSError as error:
            raise UserError(f"{self.folder} cannot be read: {error.strerror or error}.") from error

    def _about(self, step: int) -> dict[str, Any]:
        args = ocp.args.Composite(about=ocp.args.JsonRestore())
        return checked_about(self._reader().restore(step, args=args)["about"])

    def _damage(self, step: int, error: Exception) -> str:
        return f"The checkpoint {self.path(step)} is damaged and skipped: {reason_of(error)}"

    def _put_aside(self, step: int) -> None:
        aside = self.folder.parent / "damaged_checkpoints"
        try:
            move_into(aside, self.path(step))
        except OSError as error:
            raise UserError(
                f"The damaged {self.path(step)} cannot be moved to {aside} ({error.strerror or error}): "
                "delete it, and run again."
            ) from error
        self.selections().pop(step, None)
        self._manager = None

    def _reader(self) -> ocp.CheckpointManager:
        if self._manager is None:
            handlers = {"model": ocp.StandardCheckpointHandler(), "training": ocp.StandardCheckpointHandler(),
                        "about": ocp.JsonCheckpointHandler()}  # fmt: skip
            options = by_this_process(create=False, read_only=not self.folder.is_dir())
            self._manager = ocp.CheckpointManager(self.folder, item_handlers=handlers, options=options)
            # Orbax before 0.12, which jax2onnx asks for, fails without JAX's preemption service.
            self._manager.reached_preemption = lambda step: False  # type: ignore[method-assign]
        return self._manager

    def _writer(self) -> ocp.CheckpointManager:
        if self._manager is None:
            self.folder.mkdir(parents=True, exist_ok=True)
        return self._reader()
