"""Decoded images with labels, and their division into train, validation and test."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ImageDataset:
    """Images held in memory.

    Attributes:
      images: uint8 `[n, height, width, channel]`.
      labels: int32 `[n]`, indices into `class_names`.
      class_names: one name a class; every class has at least one image.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def class_counts(self) -> np.ndarray:
        """Images of each class, int64 `[classes]`."""
        return np.bincount(self.labels, minlength=self.num_classes)

    def fingerprint(self) -> str:
        """SHA-256 of shapes, pixels and labels: equal only for the same data in the same order."""
        digest = hashlib.sha256()
        for array in (self.images, self.labels):
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set.

    Attributes:
      train, validation, test: the parts. In few-shot work their classes are disjoint, in
        fine-grained classification they share `class_names`.
      notes: sentences the user should read (images skipped, classes left out).
    """

    train: ImageDataset
    validation: ImageDataset
    test: ImageDataset
    notes: tuple[str, ...] = ()


def merge(first: ImageDataset, second: ImageDataset) -> ImageDataset:
    """Puts two data sets together; classes of the same name become one."""
    names = first.class_names + tuple(n for n in second.class_names if n not in set(first.class_names))
    index = {name: i for i, name in enumerate(names)}
    renumbered = np.array([index[name] for name in second.class_names], np.int32)[second.labels]
    return ImageDataset(
        images=np.concatenate([first.images, second.images]),
        labels=np.concatenate([first.labels, renumbered]),
        class_names=names,
    )


def take_classes(data: ImageDataset, chosen: np.ndarray) -> ImageDataset:
    """The part of a data set whose classes are marked, bool `[classes]`; they are numbered anew."""
    rows = chosen[data.labels]
    renumbered = np.cumsum(chosen) - 1
    return ImageDataset(
        images=data.images[rows],
        labels=renumbered[data.labels[rows]].astype(np.int32),
        class_names=tuple(name for name, keep in zip(data.class_names, chosen, strict=True) if keep),
    )
