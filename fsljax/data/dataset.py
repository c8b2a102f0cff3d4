"""Images with labels, and their training, validation and test splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from fsljax.data.io.encoded_images import EncodedImages


@dataclass(frozen=True)
class ImageDataset:
    """Images with labels: in memory, memory-mapped, or decoded on access.

    Attributes:
      images: uint8 `[n, height, width, channel]`, or `EncodedImages`, which are indexed like an array.
      labels: int32 `[n]`, indices into `class_names`.
      class_names: one name per class. Every class has at least one image, except that in classification a
        class may have none in validation or test.
      fine_labels: int32 `[n]`, indices into `fine_class_names`, if classes were merged from finer ones
        (`fsljax.data.hierarchy`); else None. Used for evaluation only.
      fine_class_names: one name per fine class, the same in all splits; else None.
      source: the encoded images in the files of a prepared data set, which identify the images whether or not
        they are decoded.
      files: str `[n]`, paths of the images relative to their folder, for display; else None.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    fine_labels: np.ndarray | None = None
    fine_class_names: tuple[str, ...] | None = None
    source: EncodedImages | None = None
    files: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def class_counts(self) -> np.ndarray:
        """Number of images of each class, int64 `[classes]`."""
        return np.bincount(self.labels, minlength=self.num_classes)

    def fingerprint(self) -> str:
        """SHA-256 of shapes, pixels and labels: equal only for the same data in the same order.

        If the images have a source, its records are hashed instead of the pixels.
        """
        return self._fingerprint

    def cache_key(self) -> str:
        """Cache key for results computed from the images; it differs whenever the files may differ.

        It is the fingerprint, unless that does not cover the contents of files.
        """
        if self.source is None or not self.source.place:
            return self.fingerprint()
        return hashlib.sha256(f"{self.fingerprint()} {self.source.place}".encode()).hexdigest()

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        pixels = self.images if self.source is None else self.source
        for array in (pixels, self.labels, self.fine_labels):
            if array is None:
                continue
            digest.update(repr((array.shape, array.dtype.str)).encode())
            if isinstance(array, EncodedImages):
                digest.update(array.fingerprint().encode())
            else:
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


class FixedEpisodes(NamedTuple):
    """Test episodes that come with a data set and are used as they are.

    Attributes:
      images: int32 `[episodes, way, shot + queries]`, positions in the test split; the first `shot` of each
        class are its support.
      shot: support images per class.
      unit: what the data set calls an episode; the mean and its interval are taken over these.
    """

    images: np.ndarray
    shot: int
    unit: str = "episode"


@dataclass(frozen=True)
class Splits:
    """The training, validation and test splits of a data set.

    Attributes:
      train, validation, test: the splits. In few-shot learning their classes are disjoint; in fine-grained
        classification they share `class_names`.
      notes: notes for the user (skipped images or classes).
      episodes: test episodes that come with the data set, by the names of their settings; they replace drawn
        episodes.
    """

    train: ImageDataset
    validation: ImageDataset
    test: ImageDataset
    notes: tuple[str, ...] = ()
    episodes: Mapping[str, FixedEpisodes] = field(default_factory=dict)

    def training_part(self, train_on: str) -> ImageDataset:
        """The data to train on: "train", or "train_and_validation" together."""
        return merge(self.train, self.validation) if train_on == "train_and_validation" else self.train

    def fingerprints(self) -> dict[str, str]:
        """`ImageDataset.fingerprint` of each split, by name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part.fingerprint() for name, part in parts.items()}


def spread_classes(classes: int, count: int) -> np.ndarray:
    """`count` classes, evenly spaced over all classes."""
    return np.unique(np.linspace(0, classes - 1, min(count, classes)).astype(int))


def places_in_class(labels: np.ndarray) -> np.ndarray:
    """Index of each example among those of its class, in stored order: int64 `[n]`, from 0."""
    counts = np.bincount(labels)
    places = np.empty(len(labels), np.int64)
    order = np.argsort(labels, kind="stable")
    places[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return places


def merge(first: ImageDataset, second: ImageDataset) -> ImageDataset:
    """Concatenates two data sets; classes of the same name are merged, as are fine classes.

    Raises:
      ValueError: if only one of them has fine labels, or their images differ in shape.
    """
    if (first.fine_labels is None) != (second.fine_labels is None):
        raise ValueError("One of the two data sets has fine labels and the other has none.")
    labels, names = _united(first.labels, first.class_names, second.labels, second.class_names)
    merged = ImageDataset(
        _joined(first.images, second.images),
        labels,
        names,
        source=_joined_source(first, second),
        files=None if first.files is None or second.files is None else np.append(first.files, second.files),
    )
    if first.fine_labels is None or second.fine_labels is None:
        return merged
    fine_labels, fine_names = _united(
        first.fine_labels, first.fine_class_names or (), second.fine_labels, second.fine_class_names or ()
    )
    return replace(merged, fine_labels=fine_labels, fine_class_names=fine_names)


def take_classes(data: ImageDataset, chosen: np.ndarray) -> ImageDataset:
    """The examples of the selected classes, bool `[classes]`; classes are renumbered.

    Fine classes keep their numbers, so that they stay comparable between splits.
    """
    taken = take_rows(data, np.flatnonzero(chosen[data.labels]))
    renumbered = np.cumsum(chosen) - 1
    return replace(
        taken,
        labels=renumbered[taken.labels].astype(np.int32),
        class_names=tuple(name for name, keep in zip(data.class_names, chosen, strict=True) if keep),
    )


def take_rows(data: ImageDataset, rows: np.ndarray) -> ImageDataset:
    """The images at these positions, int `[m]`, in this order; classes are unchanged."""
    images = data.images
    # What lies in a row stays in its file where an index would load it.
    in_a_row = len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows)))
    return replace(
        data,
        images=images.take(rows)
        if isinstance(images, EncodedImages)
        else images[rows[0] : rows[0] + len(rows)]
        if in_a_row
        else images[rows],
        labels=data.labels[rows],
        fine_labels=None if data.fine_labels is None else data.fine_labels[rows],
        source=None if data.source is None else data.source.take(rows),
        files=None if data.files is None else data.files[rows],
    )


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    if isinstance(first, EncodedImages) and isinstance(second, EncodedImages):
        return first.joined(second)
    return np.concatenate([first, second])


def _joined_source(first: ImageDataset, second: ImageDataset) -> EncodedImages | None:
    if first.source is None or second.source is None or not first.source.is_like(second.source):
        return None
    return first.source.joined(second.source)


def _united(
    first: np.ndarray, first_names: tuple[str, ...], second: np.ndarray, second_names: tuple[str, ...]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels of both, and the names that these are indices of."""
    names = first_names + tuple(name for name in second_names if name not in set(first_names))
    index = {name: i for i, name in enumerate(names)}
    renumbered = np.array([index[name] for name in second_names], np.int32)[second]
    return np.concatenate([first, renumbered]), names
