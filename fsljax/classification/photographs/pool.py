"""Photographs of classes with their embeddings, sorted by class, of which a share is held out."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fsljax.classification.heads import Head, new_head
from fsljax.data.dataset import ImageDataset


class Pictures:
    """The images of several parts one after another, read where they are asked for: they may lie in files.

    Attributes:
      order: int `[n]`, positions in the parts put together, in the order in which they are shown.
    """

    def __init__(self, parts: Sequence[ImageDataset], order: np.ndarray):
        self._parts = [part.images for part in parts if len(part)]
        self._starts = np.cumsum([0, *map(len, self._parts)])
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: Any) -> np.ndarray:
        positions = self.order[index]
        if not np.ndim(positions):
            return self._at(int(positions))
        return np.stack([self._at(int(position)) for position in positions])

    def at(self, rows: np.ndarray) -> Any:
        """Some of them, read like an array of images; none of them is read yet."""
        some = copy.copy(self)
        some.order = self.order[rows]
        return some

    def _at(self, position: int) -> np.ndarray:
        part = int(np.searchsorted(self._starts, position, side="right")) - 1
        start = position - int(self._starts[part])
        return np.asarray(self._parts[part][start : start + 1])[0]

    def digests(self) -> list[bytes]:
        """SHA-256 of each image's pixels: equal where the images are the same."""
        return [hashlib.sha256(np.ascontiguousarray(self[row]).data).digest() for row in range(len(self))]


@dataclass(frozen=True)
class Pool:
    """Photographs with their embeddings, sorted by class.

    Attributes:
      embeddings: float32 `[n, dim]`.
      labels: int `[n]`, in ascending order.
      held_out: bool `[n]`.
      class_names: one a class; each has a photograph that is not held out.
      files: str `[n]`, what the photographs are called.
      images: `[n, height, width, channel]`.
    """

    embeddings: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray
    class_names: tuple[str, ...]
    files: np.ndarray
    images: Pictures

    @property
    def classes(self) -> int:
        return len(self.class_names)

    def embedded(self, embeddings: np.ndarray) -> Pool:
        """The same photographs with other embeddings."""
        return replace(self, embeddings=embeddings)

    def head(self, name: str, rows: np.ndarray, *, distance: str, named: bool = False) -> Head:
        """A head of the photographs `rows`, bool or int `[…]`; of classes by number, or by their names."""
        head = new_head(name, distance=distance)
        labels = self.labels[rows].tolist()
        head.add([self.class_names[label] for label in labels] if named else labels, self.embeddings[rows])
        return head


def pool_of(enrolled: ImageDataset, held_out: ImageDataset) -> tuple[Pool, np.ndarray]:
    """Two parts of the same classes as one, without embeddings yet.

    Returns:
      The pool, and for each of its rows the position in `enrolled` followed by `held_out`, int `[n]`.
    """
    labels = np.concatenate([enrolled.labels, held_out.labels])
    order = np.argsort(labels, kind="stable")
    files = np.concatenate([_files(enrolled, "image"), _files(held_out, "held-out image")])
    pool = Pool(
        embeddings=np.zeros((len(labels), 0), np.float32),
        labels=labels[order],
        held_out=order >= len(enrolled),
        class_names=enrolled.class_names,
        files=files[order],
        images=Pictures([enrolled, held_out], order),
    )
    return pool, order


def _files(part: ImageDataset, called: str) -> np.ndarray:
    if part.files is not None:
        return part.files
    return np.array([f"{called} {number}" for number in range(len(part))], np.str_)
