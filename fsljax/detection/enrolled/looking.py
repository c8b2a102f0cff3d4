"""Photographs seen by a detector, a batch at a time, and what is kept of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import jax
import numpy as np

from fsljax.data.labels import Label, listed_labels
from fsljax.data.user_images import Images
from fsljax.detection.config import Data
from fsljax.detection.data.padded_images import (
    GivenBoxes,
    PaddedImages,
    checked_boxes,
    listed_boxes,
    padded_batches,
)
from fsljax.detection.data.structures import Array
from fsljax.detection.enrolled.comparison import few_numbers
from fsljax.detection.enrolled.photographs import Photograph, Regions
from fsljax.detection.enrolled.views import views
from fsljax.detection.model.enroll import Enrollment
from fsljax.detection.model.search import Seen
from fsljax.errors import UserError

_LEAST_BOXES = 4  # places for boxes of an image, so that few programs are compiled


class Space(Protocol):
    """Where regions are compared."""

    @property
    def side(self) -> int:
        """Pixels of the squares that it looks at."""

    @property
    def dim(self) -> int:
        """Of what is compared."""

    @property
    def enrollment(self) -> Enrollment:
        """How classes are enrolled and compared."""

    def look(self, images: Array, sizes: Array, given: Array, mask: Array) -> Seen:
        """The regions of images; see `fsljax.detection.model.search.look`."""


def photographs_with_boxes(
    space: Space,
    data: Data,
    images: Images,
    boxes: GivenBoxes,
    labels: Label | Iterable[Label] | np.ndarray,
    count: int = 0,
    *,
    may_be_empty: bool = False,
) -> list[Photograph]:
    """Photographs in which boxes are given, each followed by its views.

    Args:
      space, data: of the detector.
      images, boxes, labels: as of `fsljax.api.Detector.enroll`.
      count: of views of each.
      may_be_empty: whether an image may have no box.

    Raises:
      UserError: as there.
    """
    rows = listed_boxes(boxes)
    counts = [len(row) if row.ndim != 1 or not row.size else 1 for row in rows if row.ndim]
    listed = listed_labels(labels, sum(counts), "box")
    kept: list[Photograph] = []
    first = seen_images = 0
    for batch in padded_batches(images, data, space.side):
        numbers = list(range(seen_images, seen_images + len(batch.images)))
        seen_images += len(numbers)
        if seen_images > len(rows):
            continue  # how many there are is told below
        checked = [
            checked_boxes(rows[number], size, number, may_be_empty=may_be_empty)
            for number, size in zip(numbers, batch.given_sizes, strict=True)
        ]
        of_images = []
        for of_image in checked:
            of_images.append(tuple(listed[first : first + len(of_image)]))
            first += len(of_image)
        for is_view, seen in _with_views(space, batch, checked, count):
            for place, number in enumerate(numbers):
                kept.append(_kept(seen, place, of_images[place], number, is_view=is_view))
    if seen_images != len(rows):
        raise UserError(
            f"There are {seen_images} images, but boxes for {len(rows)}: give one or more for each."
        )
    return sorted(kept, key=lambda one: (one.number, one.is_view))


def background_photographs(
    space: Space, data: Data, images: Images, lacks: Sequence[Label], first: int
) -> list[Photograph]:
    """Photographs without classes, numbered from `first` on.

    Raises:
      UserError: if there are no images, or one cannot be read.
    """
    kept: list[Photograph] = []
    for batch in padded_batches(images, data, space.side):
        seen = jax.device_get(seen_without_boxes(space, batch))
        for place in range(len(batch.images)):
            of_image = _kept(seen, place, (), first + len(kept), is_view=False, lacks=tuple(lacks))
            kept.append(of_image)
    return kept


def seen_without_boxes(space: Space, batch: PaddedImages) -> Seen:
    """The proposals of a batch, which is filled up."""
    filled = batch.filled()
    nothing = np.zeros((len(filled.images), 0, 4), np.float32)
    return space.look(filled.images, filled.sizes, nothing, np.ones(nothing.shape[:2], bool))


def _with_views(
    space: Space, batch: PaddedImages, boxes: Sequence[np.ndarray], count: int
) -> Iterator[tuple[bool, Seen]]:
    """What is seen of a batch and of its views, and whether it is a view."""
    filled = batch.filled()
    places = few_numbers(max(_LEAST_BOXES, *map(len, boxes)))
    given = np.zeros((len(filled.images), places, 4), np.float32)
    mask = np.zeros(given.shape[:2], bool)
    for row, (of_image, scale) in enumerate(zip(boxes, batch.scales, strict=True)):
        given[row, : len(of_image)] = of_image * scale
        mask[row, : len(of_image)] = True
    yield False, jax.device_get(space.look(filled.images, filled.sizes, given, mask))
    for view in views(filled.images, given, filled.sizes, count, mask):
        yield True, jax.device_get(space.look(view.images, view.sizes, view.boxes, mask))


def _kept(
    seen: Seen,
    place: int,
    labels: tuple[Label, ...],
    number: int,
    *,
    is_view: bool,
    lacks: tuple[Label, ...] = (),
) -> Photograph:
    valid = np.asarray(seen.valid[place])
    columns = (seen.boxes, seen.refined, seen.objectness, seen.weight, seen.features)
    regions = Regions(*(np.asarray(column[place], np.float32)[valid] for column in columns))
    photograph = Photograph(regions, labels, lacks, number, is_view)
    return photograph.thinned() if is_view else photograph
