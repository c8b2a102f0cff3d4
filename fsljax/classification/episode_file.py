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
        with np.load(path, allow_pickle=False) as arrays:
            contents = dict(arrays)
    except FileNotFoundError:
        raise UserError(f"There is no file of episodes at {path} (config.eval.read_episodes).") from None
    except Exception as error:  # zipfile, zlib and NumPy each raise their own for a damaged file
        raise UserError(
            f"{path} is no file of episodes, or damaged: write one with --config.eval.write_episodes=PATH."
        ) from error
    if "fingerprint" not in contents:
        raise UserError(f"{path} is no file of episodes: write one with --config.eval.write_episodes=PATH.")
    if str(contents["fingerprint"]) != data.fingerprint():
        raise UserError(
            f"The episodes in {path} were drawn from another data set: evaluate with the data and image size "
            "they were written with, or write them anew with --config.eval.write_episodes."
        )
    prefixes = dict.fromkeys(name.split("/")[0] for name in contents if name.endswith("/images"))
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
        raise UserError(f"{path} holds no episodes, or damaged ones: write it anew.")
    return episodes


def _fits(episodes: Episodes, setting: Setting, data: ImageDataset) -> bool:
    images = np.asarray(episodes.images)
    return (
        images.ndim == 3
        and images.shape[1:] == (setting.way, setting.shot + setting.queries)
        and min(setting.way - 1, setting.shot, setting.queries, len(images)) > 0
        and np.issubdtype(images.dtype, np.integer)
        and bool((images >= 0).all() and (images < len(data)).all())
    )
