"""Photographs of classes that are to be enrolled: a folder of class folders, or of a published layout."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator

import numpy as np

from fsljax.config import Data
from fsljax.data.folders.layouts import list_images, shown_names
from fsljax.data.user_images import prepare
from fsljax.errors import UserError, first_few
from fsljax.storage.paths import given_path

_AT_ONCE = 256
_MOST_UNREADABLE = 0.01


def prepared_classes(path: str | os.PathLike[str], data: Data) -> Iterator[tuple[np.ndarray, list[str]]]:
    """The photographs of a folder, some at a time, with the names of their classes.

    Images of all its parts, `train/` and `test/` say, are taken. Up to 1 % of them may be unreadable: these
    are left out, and a warning names them.

    Args:
      path: the folder; see `fsljax.data.sources.folder.load_splits`.
      data: the `data` section of the network's config.

    Yields:
      images uint8 `[n, image_size, image_size, channels]`, and n class names.

    Raises:
      UserError: there is no such folder, no class in it, or 1 % of its images or more are unreadable.
    """
    root = given_path(path)
    if not root.is_dir():
        raise UserError(
            f"There is no folder {root}: give a folder that holds one folder of images per class."
        )
    notes: list[str] = []
    parts = list_images(root, True, notes)
    names = shown_names(name for classes in parts.values() for name in classes)
    files = [
        (root / file, names[name])
        for classes in parts.values()
        for name, of_class in classes.items()
        for file in of_class
    ]
    unreadable: list[str] = []
    for start in range(0, len(files), _AT_ONCE):
        images, labels = [], []
        for file, label in files[start : start + _AT_ONCE]:
            try:
                images.append(prepare(file, data))
                labels.append(label)
            except UserError as error:
                unreadable.append(str(error))
        if len(unreadable) > _MOST_UNREADABLE * len(files):
            raise UserError(f"{unreadable[0].rstrip('.')}: remove it from {root}, or replace it.")
        if images:
            yield np.concatenate(images), labels
    if unreadable:
        notes.append(f"Skipped unreadable images ({len(unreadable)}): {first_few(unreadable)}")
    for note in notes:
        warnings.warn(note, stacklevel=4)
