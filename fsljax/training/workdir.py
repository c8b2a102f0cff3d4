"""The folder of a run: whose it is, who is using it, and what was found."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
from ml_collections import ConfigDict

from fsljax.config import plain, shared_config
from fsljax.data.io.files import replacing
from fsljax.errors import UserError

CONFIG = "config.json"
RESULTS = "results.json"
IMAGES = "images.json"
# Where things are and how they are shown changes nothing in what is trained.
_MAY_DIFFER = ("eval", "data.data_dir", "data.path", "checkpoint", "train.log_every",
               "train.steps_per_dispatch", "network.kernels", "data.host_budget_gb",
               "data.device_budget_gb", "data.workers", "data.prefetch")  # fmt: skip


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


def claim(workdir: Path, config: ConfigDict, images: dict[str, str]) -> None:
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


def release(workdir: Path, config: ConfigDict) -> None:
    """Forgets a run of this experiment that came to nothing: another config may take its place.

    A file of the same name that no run wrote stays.
    """
    try:
        stored = json.loads((workdir / CONFIG).read_text())
        if stored["name"] == config.name and stored["method"] == config.method:
            (workdir / CONFIG).unlink()
            (workdir / IMAGES).unlink(missing_ok=True)
    except (OSError, ValueError, KeyError, TypeError):
        return


def same_images(workdir: Path, images: dict[str, str]) -> bool:
    """Whether these are the fingerprints of the images that the run was made with; True if none are kept."""
    try:
        return json.loads((workdir / IMAGES).read_text()) == images
    except (OSError, ValueError):
        return True


def check_same(workdir: Path, config: ConfigDict) -> None:
    """Raises a UserError if the workdir holds the run of another config, naming what differs."""
    path = workdir / CONFIG
    # A field that came after the run was made has its default there.
    defaults = _flat(plain(shared_config()))
    try:
        stored = defaults | _flat(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): give another --workdir.") from error
    wanted = defaults | _flat(plain(config))
    differing = [
        f"{name} is {stored[name]!r} there and {wanted.get(name)!r} here"
        for name in stored
        if stored[name] != wanted.get(name)
        and not any(name == field or name.startswith(f"{field}.") for field in _MAY_DIFFER)
    ]
    if differing:
        more = f", and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise UserError(
            f"{workdir} holds the run of another config ({'; '.join(differing[:3])}{more}): "
            "give another --workdir, or the config that made it."
        )


def read_results(folder: Path) -> dict[str, Any]:
    """What `results.json` holds; empty if there is none that can be read."""
    try:
        return dict(json.loads((folder / RESULTS).read_text()))
    except (OSError, ValueError):
        return {}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON file so that a reader sees the old content or the new, never half of it."""
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2) + "\n")


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat
