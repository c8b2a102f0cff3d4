"""The folder of a run: whose it is, who is using it, and its results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import filelock
import numpy as np
from absl import logging

from fsljax.config import Experiment, field_names, flat, free_names, plain, read
from fsljax.errors import UserError
from fsljax.storage.array_files import read_arrays
from fsljax.storage.json_files import read_checked, write_json
from fsljax.storage.paths import is_there
from fsljax.storage.replacing import replacing

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")

CONFIG = "config.json"
RESULTS = "results.json"
CORRECT = "correct.npz"
IMAGES = "images.json"


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds a folder for this process alone.

    Raises:
      UserError: if another run holds it, or it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(
            f"Another run is using {folder}: wait for it to end, or give this one its own --workdir."
        ) from None
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror or error}): give another --workdir or --output_dir."
        ) from error
    try:
        yield
    finally:
        lock.release()


def check_name(folder: Path) -> None:
    """Raises a UserError if the name of a folder has no UTF-8, in which checkpoints are filed."""
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"The name of {folder} is not UTF-8: give another --workdir or --output_dir."
        ) from None


def claim(workdir: Path, config: Experiment, images: dict[str, str]) -> None:
    """Writes what a run is made of into a new workdir, or checks that it holds the same.

    Args:
      workdir: the folder.
      config: of the run.
      images: a fingerprint of each part of the data.

    Raises:
      UserError: if the workdir holds another config's run, naming what differs, or a run on other images;
        or if it cannot be written.
    """
    if has_config(workdir):
        check_same(workdir, config)
        if not same_images(workdir, images):
            raise UserError(
                f"{workdir} holds a run on images that have changed since: give another --workdir, or "
                "restore the images it started with."
            )
    try:
        for name, content in ((IMAGES, images), (CONFIG, plain(config))):
            if not (workdir / name).exists():
                write_json(workdir / name, content)
    except OSError as error:
        raise UserError(f"{workdir} cannot be written ({error.strerror or error}).") from error


def release(workdir: Path, config: Experiment) -> None:
    """Forgets a run of this experiment that came to nothing: another config may take its place.

    A file of the same name that no run wrote stays.
    """
    try:
        stored = read_config(workdir)
    except UserError:
        return
    if (stored.get("name"), stored.get("method")) == (config.name, config.method):
        (workdir / CONFIG).unlink()
        (workdir / IMAGES).unlink(missing_ok=True)


def read_config(folder: Path) -> dict[str, Any]:
    """The values that a run, a shipped model or a saved one keeps of its config.

    Raises:
      UserError: if there are none, or they cannot be read.
    """
    path = folder / CONFIG
    if not has_config(folder):
        raise UserError(
            f"There is no model in {folder}: give the workdir of a run, or a folder written by save."
        )
    try:
        return read_checked(path)
    except UserError as error:
        raise UserError(f"{path} cannot be read: {_reason(path, error)}.") from error


def has_config(folder: Path) -> bool:
    """Whether a run, a shipped model or a saved one is in a folder.

    Raises:
      UserError: if that cannot be told.
    """
    return is_there(folder / CONFIG, "The config")


def method_of(folder: Path) -> str:
    """The method of what is in a folder, as its config has it; "" where there is no config, or none in it.

    Raises:
      UserError: if the config cannot be read.
    """
    return str(read_config(folder).get("method", "")) if has_config(folder) else ""


def same_images(workdir: Path, images: dict[str, str]) -> bool:
    """Whether these are the fingerprints of the images that the run was made with; True if none are kept.

    Raises:
      UserError: if they are kept and cannot be read.
    """
    path = workdir / IMAGES
    try:
        return read_checked(path) == images
    except FileNotFoundError:
        return True
    except UserError as error:
        raise UserError(
            f"{path} cannot be read: {_reason(path, error)}. It shows whether the images are those of the "
            "run: restore it, or delete it if you know that they are."
        ) from error


def forget_images(workdir: Path) -> None:
    """Lets a run in which nothing is trained go on with other images."""
    (workdir / IMAGES).unlink(missing_ok=True)


def check_same(workdir: Path, config: Experiment) -> None:
    """Raises a UserError if the workdir holds the run of another config, naming what differs.

    All fields count but those that change nothing in what is trained.
    """
    stored = read_config(workdir)
    try:
        # A field that came after the run was made has its default there.
        there = read(type(config), stored, complete=False)
    except UserError as error:
        raise UserError(
            f"{workdir / CONFIG} cannot be read ({str(error).rstrip('.')}): give another --workdir."
        ) from error
    known, free = field_names(type(config)), free_names(type(config))
    differing = differences(there, config) + [
        f"{name} is {value!r} there and not a field here"
        for name, value in flat(stored).items()
        if name not in known and not _is_in(name, free)
    ]
    if differing:
        more = f", and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise UserError(
            f"{workdir} holds the run of another config ({'; '.join(differing[:3])}{more}): "
            "give another --workdir, or the config that made it."
        )


def differences(there: Config, here: Config) -> list[str]:
    """Where two configs of one kind differ in what changes a result: "train.way is 60 there and 30 here"."""
    stored, wanted, free = flat(plain(there)), flat(plain(here)), free_names(type(here))
    return [
        f"{name} is {stored[name]!r} there and {wanted[name]!r} here"
        for name in wanted
        if stored[name] != wanted[name] and not _is_in(name, free)
    ]


def _is_in(name: str, sections: list[str]) -> bool:
    return any(name == section or name.startswith(f"{section}.") for section in sections)


def read_results(folder: Path) -> dict[str, Any]:
    """What `results.json` holds; empty if there is none, or, after a warning, if it cannot be read."""
    try:
        return results_of(folder)
    except FileNotFoundError:
        pass
    except UserError as error:
        logging.warning("%s The new results do not include what it held.", error)
    return {}


def results_of(folder: Path) -> dict[str, Any]:
    """What `results.json` holds.

    Raises:
      FileNotFoundError: if there is none.
      UserError: if it cannot be read, or holds no results.
    """
    path = folder / RESULTS
    results = read_checked(path, nan=True)  # NaN: a figure that does not exist
    settings = results.get("test")
    if not isinstance(settings, dict) or not all(map(_is_setting, settings.values())):
        raise UserError(f"{path} is damaged: it does not hold test settings with a number for each metric.")
    return results


def merged(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Settings of an earlier evaluation of the same checkpoint and images stay beside those of this one."""
    if any(before.get(name) != now[name] for name in now if name != "test"):
        return now
    return {**now, "test": {**before.get("test", {}), **now["test"]}}


def settings_of(workdir: Path) -> dict[str, dict[str, float]]:
    """Figures of each setting of a run.

    Raises:
      UserError: if its results are missing or damaged.
    """
    try:
        settings: dict[str, dict[str, float]] = results_of(workdir)["test"]
    except FileNotFoundError:
        raise UserError(f"There are no results in {workdir}: evaluate it again.") from None
    return settings


def write_correct(path: Path, correct: dict[str, np.ndarray]) -> None:
    """Which test examples each setting classified rightly, for paired comparisons."""
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **correct)


def correct_of(workdir: Path, setting: str) -> np.ndarray:
    """Which test examples a run classified correctly, bool `[n]`."""
    path = workdir / CORRECT
    try:
        arrays = read_arrays(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run the same command again.") from None
    except UserError as error:
        raise UserError(f"{error} Delete it, and run the same command again.") from error
    if setting not in arrays:
        raise UserError(f"{workdir} has no setting {setting!r}: evaluate it again.")
    if arrays[setting].dtype != bool or arrays[setting].ndim != 1 or not len(arrays[setting]):
        raise UserError(
            f"{path} is damaged: {setting!r} does not hold a yes or no for each test example. Delete it, "
            "and run the same command again."
        )
    return arrays[setting]


def _is_setting(figures: object) -> bool:
    return isinstance(figures, dict) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) > largest
        for name, value in figures.items()
        for largest in [1 if name == "accuracy" or name.endswith("ci95") else 1e15]
    )


def _reason(path: Path, error: UserError) -> str:
    """What is wrong with a file, of a sentence that begins with its path."""
    predicate = str(error).removeprefix(f"{path} ").rstrip(".")
    return predicate.removeprefix("cannot be read: ") if "cannot be read" in predicate else f"it {predicate}"
