"""The state of a run as the parts of a checkpoint, in host memory, and back."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from chex import ArrayTree

from fsljax.errors import UserError, first_few
from fsljax.parallel import processes
from fsljax.storage.json_files import sealed, unsealed
from fsljax.training.state import TrainState

Items = dict[str, Any]
"""Parts of a checkpoint by name: pytrees of arrays, or what JSON holds."""


def digest(tree: ArrayTree) -> str:
    """SHA-256 of the names, shapes and bytes of all arrays of a tree."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype.str}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def items_of(state: TrainState) -> Items:
    """The state in two parts, in host memory: what evaluation needs, and the rest."""
    training = {"step": state.step, "opt_state": state.opt_state, "key": jax.random.key_data(state.key)}
    if state.ema_params is not None:
        training["params"] = state.params
    if state.method_state is not None:
        training["method_state"] = state.method_state
    return on_host({"model": state.inference_variables(), "training": training})


def assembled(template: TrainState, items: Items) -> TrainState:
    model, training = jax.tree.map(jax.numpy.array, (items["model"], items["training"]))
    averaging = template.ema_params is not None
    return template.replace(
        step=training["step"],
        params=training["params"] if averaging else model["params"],
        ema_params=model["params"] if averaging else None,
        batch_stats=model["batch_stats"],
        opt_state=training["opt_state"],
        key=jax.random.wrap_key_data(training["key"]),
        method_state=training.get("method_state"),
    )


def state_of_first(state: TrainState) -> TrainState:
    """The state that process 0 has, in every process; all must call this."""
    if processes.count() == 1:
        return state
    items = items_of(state)
    return assembled(state, processes.arrays_from_first(items, like=items))


def on_host(tree: ArrayTree) -> Any:
    """Copies of all arrays in host memory: the next step may overwrite the buffers they had."""
    return jax.tree.map(lambda leaf: np.array(leaf), tree)


def save_args(items: Items, selection: float | None) -> ocp.args.Composite:
    """What orbax writes: the parts, and `about` them the figure that chooses the best, and digests."""
    about = {"selection": selection, "digests": {name: digest(item) for name, item in items.items()}}
    args = {name: ocp.args.StandardSave(item) for name, item in items.items()}
    return ocp.args.Composite(**args, about=ocp.args.JsonSave(sealed(about)))


def which_step(given: str, *, trained: bool = True) -> str | int:
    """What `--step` asks for: "best", "last" or the number of a step.

    Args:
      given: its text.
      trained: whether the run is trained already; only then can a step be chosen by its number.

    Raises:
      UserError: if it is none of them.
    """
    if given in ("best", "last"):
        return given
    if not (given.isascii() and given.isdigit() and len(given) <= 10):
        raise UserError(f"--step is {given!r}; it must be best, last, or a step number.")
    if not trained:
        raise UserError(f"--step={given} is for a run that has been trained already: add --mode=evaluate.")
    return int(given)


def in_order(selections: Mapping[int, float | None], which: str | int, folder: Path) -> list[int]:
    """Steps of the checkpoints to try, in this order; those never validated are the worst.

    Args:
      selections: what each was chosen by.
      which: "best", "last", or a step, which alone will do.
      folder: of the checkpoints, for the error.

    Raises:
      UserError: if there is none of the step that is asked for.
    """

    def merit(step: int) -> tuple[float, int]:
        chosen_by = selections[step]
        return (-math.inf if chosen_by is None else chosen_by, step)

    if not isinstance(which, int):
        return sorted(selections, key=merit if which == "best" else None, reverse=True)
    if selections and which not in selections:
        kept = first_few([str(step) for step in sorted(selections)], most=20)
        raise UserError(f"There is no checkpoint of step {which} in {folder}; it has {kept}.")
    return [which] if selections else []


def by_this_process(**options: Any) -> ocp.CheckpointManagerOptions:
    """Options of orbax with which a process of several reads and writes without waiting for the others."""
    if processes.count() > 1:
        this = processes.index()
        options["multiprocessing_options"] = ocp.options.MultiprocessingOptions(
            primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"process{this}"
        )
    return ocp.CheckpointManagerOptions(**options)


def checked_about(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What `save_args` said about the parts.

    Raises:
      ValueError: if it is damaged.
    """
    about = unsealed(stored)
    if not isinstance(about.get("selection", ""), float | int | None) or "digests" not in about:
        raise ValueError("what it holds, and how it was chosen, cannot be read")
    return about
