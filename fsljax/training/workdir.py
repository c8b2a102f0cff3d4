"""The folder of a run: whose it is, who is using it, and its results."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import filelock

from fsljax.config import Experiment, field_names, flat, free_names, plain, read
from fsljax.errors import UserError
from fsljax.storage.replacing import replacing

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")

CONFIG = "config.json"
RESULTS = "results.json"
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
            f"Another run is using {folder}: wait for it to end, or give this one a --workdir of its own."
        ) from None
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror or error}): give another --workdir or --output_dir."
        ) from error
    try:
        yield
    finally:
        lock.release()


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
    if (workdir / CONFIG).exists():
        check_same(workdir, config)
        if not same_images(workdir, images):
            raise UserError(
                f"{workdir} holds a run on other images than those that are there now: give another "
                "--workdir, or the images it began with."
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
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(stored, dict):
            raise ValueError("it holds no config")
    except FileNotFoundError:
        raise UserError(
            f"There is no model in {folder}: give the workdir of a run, or a folder written by save."
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {str(error).rstrip('.')}.") from error
    return stored


def same_images(workdir: Path, images: dict[str, str]) -> bool:
    """Whether these are the fingerprints of the images that the run was made with; True if none are kept."""
    try:
        return json.loads((workdir / IMAGES).read_text(encoding="utf-8")) == images
    except (OSError, ValueError):
        return True


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
        f"{name} is {value!r} there and no field here"
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
    """What `results.json` holds; empty if there is none that can be read."""
    try:
        return dict(json.loads((folder / RESULTS).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Writes a JSON file so that a reader sees the old content or the new, never half of it."""
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
