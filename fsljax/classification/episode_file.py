"""Test episodes in a file, so that two methods are evaluated in the same ones."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import numpy as np

from fsljax.data.dataset import ImageDataset
from fsljax.data.samplers.episodes import Episodes
from fsljax.errors import UserError
from fsljax.evaluation.episodic import Setting
from fsljax.storage.array_files import read_arrays
from fsljax.storage.replacing import replacing


def write_episodes(path: Path, data: ImageDataset, episodes: dict[Setting, Episodes]) -> None:
    """Writes episodes to an .npz file, with the fingerprint of the data set they were drawn from."""
    arrays: dict[str, np.ndarray] = {"fingerprint": np.array(data.fingerprint())}
    for setting, drawn in episodes.items():
        prefix = f"{setting.way}_{setting.shot}_{setting.queries}"
        arrays[f"{prefix}/classes"] = np.asarray(drawn.classes, np.int32)
        arrays[f"{prefix}/images"] = np.asarray(drawn.images, np.int32)
    check_writable(path)
    try:
        with replacing(path) as unfinished, unfinished.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise _unwritable(path, error) from error


def check_writable(path: Path) -> None:
    """Raises a UserError if no file can be written at `path`; makes the folder if need be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"The episodes cannot be written to {path}: {error.strerror or error}.")


def read_episodes(path: Path, data: ImageDataset) -> dict[Setting, Episodes]:
    """Reads what `write_episodes` wrote.

    Raises:
      UserError: if the file does not exist, is no such file, or belongs to another data set.
    """
    try:
        contents = read_arrays(path)
    except FileNotFoundError:
        raise UserError(f"There is no episode file at {path} (config.eval.read_episodes).") from None
    except UserError as error:
        reason = str(error).removeprefix(f"{path} ").rstrip(".")
        raise UserError(
            f"{path} is not an episode file, or damaged ({reason}): write one with "
            "--config.eval.write_episodes=PATH."
        ) from error
    if "fingerprint" not in contents:
        raise UserError(f"{path} is not an episode file: write one with --config.eval.write_episodes=PATH.")
    if str(contents["fingerprint"]) != data.fingerprint():
        raise UserError(
            f"The episodes in {path} were drawn from another data set: evaluate with the data and image "
            "size they were written with, or write new ones with --config.eval.write_episodes."
        )
    prefixes = dict.fromkeys(name.split("/")[0] for name in contents if "/" in name)
    try:
        episodes = {
            Setting(*map(int, prefix.split("_"))): Episodes(
                contents[f"{prefix}/classes"], contents[f"{prefix}/images"]
            )
            for prefix in prefixes
        }
    except (KeyError, TypeError, ValueError):
        episodes = {}
    if not episodes or not all(_fits(drawn, setting, data) for setting, drawn in episodes.items()):
        raise UserError(f"{path} holds no episodes, or damaged ones: write it again.")
    return episodes


def _fits(episodes: Episodes, setting: Setting, data: ImageDataset) -> bool:
    """Whether episodes are of this setting, and each of distinct classes and of distinct images of these."""
    images, classes = np.asarray(episodes.images), np.asarray(episodes.classes)
    return (
        images.ndim == 3
        and images.shape[1:] == (setting.way, setting.shot + setting.queries)
        and min(setting.way - 1, setting.shot, setting.queries, len(images)) > 0
        and classes.shape == images.shape[:2]
        and _are_distinct_rows(images.reshape(len(images), -1), len(data))
        and _are_distinct_rows(classes, data.num_classes)
        and np.array_equal(data.labels[images], np.broadcast_to(classes[..., None], images.shape))
    )


def _are_distinct_rows(rows: np.ndarray, count: int) -> bool:
    """Whether each row of `[n, k]` holds distinct numbers from 0 to `count`."""
    if not np.issubdtype(rows.dtype, np.integer) or (rows < 0).any() or (rows >= count).any():
        return False
    return bool((np.diff(np.sort(rows, axis=1), axis=1) > 0).all())
