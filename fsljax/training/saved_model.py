"""Folders in which an application keeps a network and the classes that were enrolled."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np

from fsljax.data.labels import Label
from fsljax.errors import UserError
from fsljax.storage.array_files import read_arrays
from fsljax.storage.json_files import parse_json, write_json
from fsljax.storage.paths import is_there
from fsljax.storage.replacing import replacing
from fsljax.training import workdir
from fsljax.training.checkpoints import Checkpoints, Model
from fsljax.training.state_items import digest

ENROLLED = "enrolled.npz"
"""What an application enrolled."""
LEARNED = "learned.npz"
"""The classes that a run was trained on, and what it learned of them."""
_ROWS = ("sums", "supports", "representatives")
_NUMBERS = ("kernel", "bias", "scale", "variance")


def write(
    folder: Path,
    config: Mapping[str, object],
    model: Model,
    labels: Sequence[Label],
    arrays: Mapping[str, np.ndarray],
    same: Callable[[Path], bool],
) -> None:
    """Writes a network and its enrolled classes.

    Args:
      folder: where to; it may hold the same network already.
      config, model: the network.
      labels: of the enrolled classes.
      arrays: what else is to be kept of them.
      same: whether the config that a folder holds makes the same network.

    Raises:
      UserError: if the folder cannot be written, or holds another model.
    """
    try:
        with _exclusive(folder), closing(Checkpoints(folder)) as checkpoints:
            if not _may_go_to(folder, checkpoints, model, same):
                raise UserError(f"{folder} holds another model: give a new folder.")
            if not workdir.has_config(folder):
                write_json(folder / workdir.CONFIG, dict(config))
            if not checkpoints.selections():
                checkpoints.write_model(model, None)
            write_classes(folder / ENROLLED, model, labels, arrays)
    except OSError as error:
        raise _not_writable(folder, error) from error


def classes_file(folder: Path) -> Path | None:
    """The file of a folder's classes: enrolled, else those that its run was trained on; None: none."""
    return next((folder / name for name in (ENROLLED, LEARNED) if is_there(folder / name)), None)


def write_classes(
    path: Path, model: Model, labels: Sequence[Label], arrays: Mapping[str, np.ndarray]
) -> None:
    """Writes the classes of a network to a file that `read_enrolled` reads; an OSError is the caller's."""
    kept = {
        "labels": np.array(json.dumps(list(labels))),  # keeps strings and integers apart
        **arrays,
        "model": np.array(digest(model.variables)),
    }
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, **kept)


def read_enrolled(
    path: Path, model: Model, dim: int, restore: Callable[[list[Label], Mapping[str, np.ndarray]], None]
) -> None:
    """Reads enrolled classes, of which `restore` takes the labels and the arrays.

    Args:
      path: of the file.
      model: of the folder.
      dim: of what is kept of the classes.
      restore: may raise what it will if they do not fit together.

    Raises:
      UserError: if they cannot be read, or belong to another network than `model`.
    """
    try:
        arrays = read_arrays(path)
        of_model = str(arrays["model"]) if "model" in arrays else None
        labels = parse_json(str(arrays["labels"]))
        _check_enrolled(labels, arrays, dim)
        restore(labels, arrays)
    except Exception as error:  # damage comes as many types
        reason = str(error).removeprefix(f"{path} ").rstrip(".")
        raise UserError(
            f"The enrolled classes in {path} cannot be read ({reason}): delete the file and enrol again."
        ) from error
    if of_model not in (None, digest(model.variables)):
        raise UserError(
            f"The enrolled classes in {path} do not belong to the network in {path.parent}: delete the file "
            "and enrol again, or give another folder."
        )


def _check_enrolled(labels: object, arrays: Mapping[str, np.ndarray], dim: int) -> None:
    """Raises a ValueError unless each class has a label of its own, and what it has in finite numbers."""
    if not isinstance(labels, list) or not all(type(label) in (str, int) for label in labels):
        raise ValueError("labels must be strings or whole numbers")
    if len(set(labels)) != len(labels):
        raise ValueError("a class is listed twice")
    for name, array in arrays.items():
        if name.endswith("counts"):
            least = 0 if name == "supports_counts" else 1  # of classes that were trained none is kept
            if array.shape != (len(labels),) or array.dtype.kind not in "iu" or (array < least).any():
                raise ValueError(
                    f"{name} must hold a number from {least} for each of the {len(labels)} classes"
                )
        elif name in _NUMBERS:
            if array.dtype.kind != "f" or not np.isfinite(array).all():
                raise ValueError(f"{name} holds values that are not numbers")
        elif name in _ROWS and labels and len(array):
            if array.ndim != 2 or array.shape[1] != dim:
                raise ValueError(f"{name} has the shape {list(array.shape)}, but the network gives {dim}")
            if array.dtype.kind != "f" or not np.isfinite(array).all():
                raise ValueError(f"{name} holds values that are not numbers")
        elif name == "per_class" and (array.dtype.kind not in "iu" or array < 0):
            raise ValueError("per_class must be 0 or more")


def _may_go_to(folder: Path, checkpoints: Checkpoints, model: Model, same: Callable[[Path], bool]) -> bool:
    """Whether a folder holds this model, or none."""
    try:
        if workdir.has_config(folder) and not same(folder):
            return False
        there = checkpoints.restore_model() if checkpoints.selections() else model
    except UserError:
        return False
    return there.step == model.step and digest(there.variables) == digest(model.variables)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Holds a folder as a run does; its errors name no flags, for there are none here."""
    with ExitStack() as stack:
        try:
            stack.enter_context(workdir.exclusive(folder))
        except UserError as error:
            if isinstance(error.__cause__, OSError):
                raise _not_writable(folder, error.__cause__) from error
            raise UserError(
                f"{folder} is in use by another run: wait for it to end, or give another folder."
            ) from error
        yield


def _not_writable(folder: Path, error: OSError) -> UserError:
    return UserError(f"{folder} cannot be written ({error.strerror or error}): give another folder.")
