"""The photographs that classes were enrolled from, as far as they are kept, and what they say of a class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import numpy as np

from fsljax.clustering import kmeans
from fsljax.data.labels import Label
from fsljax.detection.config import EnrollOptions

NEGATIVES = 16
"""Regions of a photograph without a class that compete with it, those most like it."""
_ON_BOX = 0.5  # IoU
_OF_A_VIEW = 64  # regions about no box that are kept of it


class Regions(NamedTuple):
    """Regions of a photograph.

    Attributes:
      boxes: `[p, 4]`, where the features are from, in pixels of what the network saw.
      refined: `[p, 4]`, after regression.
      objectness: `[p]`.
      weight: `[p]`, by which scores of classes are multiplied.
      features: `[p, dim]`, as they are compared.
    """

    boxes: np.ndarray
    refined: np.ndarray
    objectness: np.ndarray
    weight: np.ndarray
    features: np.ndarray

    def at(self, rows: np.ndarray | slice) -> Regions:
        """Some of them."""
        return Regions(*(column[rows] for column in self))


@dataclass(frozen=True, eq=False)
class Photograph:
    """The regions of a photograph: the boxes that were given, then proposals.

    Attributes:
      regions: all of them.
      labels: of the boxes that were given, which come first; none: it is background.
      lacks: classes that are not in it, of background.
      number: that a photograph and its views have in common.
      is_view: whether it is a changed view of another one.
    """

    regions: Regions
    labels: tuple[Label, ...]
    lacks: tuple[Label, ...]
    number: int
    is_view: bool = False

    @property
    def boxes(self) -> np.ndarray:
        return self.regions.boxes

    @property
    def features(self) -> np.ndarray:
        return self.regions.features

    def without(self, label: Label) -> Photograph:
        """It without a class."""
        kept = [row for row, of_box in enumerate(self.labels) if of_box != label]
        lacks = tuple(other for other in self.lacks if other != label)
        return replace(self._with_boxes(kept), lacks=lacks)

    def without_box(self, row: int) -> Photograph:
        """It without one of the boxes that were given."""
        return self._with_boxes([other for other in range(len(self.labels)) if other != row])

    def _with_boxes(self, kept: list[int]) -> Photograph:
        rows = np.array([*kept, *range(len(self.labels), len(self.boxes))], int)
        labels = tuple(self.labels[row] for row in kept)
        return replace(self, regions=self.regions.at(rows), labels=labels)

    def thinned(self) -> Photograph:
        """It with the regions that lie on boxes, and few others: enough to learn from."""
        given = len(self.labels)
        on_box = overlaps(self.boxes, self.boxes[:given]).max(axis=1, initial=0) >= _ON_BOX
        others = np.flatnonzero(~on_box)
        if len(others) > _OF_A_VIEW:
            others = others[np.linspace(0, len(others) - 1, _OF_A_VIEW).astype(int)]
        rows = np.sort(np.concatenate([np.flatnonzero(on_box), others]))
        return replace(self, regions=self.regions.at(rows))

    def overlaps(self, row: int) -> np.ndarray:
        """IoU `[p]` of the regions with a box that was given; of other given ones 0."""
        near = overlaps(self.boxes, self.boxes[row : row + 1])[:, 0]
        near[: len(self.labels)] = 0
        near[row] = 1
        return near

    def representatives(self, row: int, options: EnrollOptions) -> np.ndarray:
        """`[per_shot, dim]` of a box that was given: of it, and of proposals that lie as it does."""
        near = self.overlaps(row)
        near[row] = 2  # a tie must not displace it
        best = np.argsort(-near, kind="stable")[: options.per_shot]
        chosen = np.where(near[best] >= options.overlap, best, row)
        filled = np.concatenate([chosen, np.full(options.per_shot - len(chosen), row)])
        return self.features[filled]


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU `[n, m]` of boxes `[n, 4]` and `[m, 4]`."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(np.maximum(of[:, 2:] - of[:, :2], 0), axis=-1) for of in (boxes, others)]
    union = areas[0][:, None] + areas[1][None] - shared
    return shared / np.maximum(union, np.finfo(np.float32).tiny)


def representatives_of(photographs: Iterable[Photograph], options: EnrollOptions) -> dict[Label, np.ndarray]:
    """Of each class that a box was given of, `[n, dim]`, in the order of the boxes."""
    found: dict[Label, list[np.ndarray]] = {}
    for photograph in photographs:
        for row, label in enumerate(photograph.labels):
            found.setdefault(label, []).append(photograph.representatives(row, options))
    return {label: np.concatenate(parts) for label, parts in found.items()}


def clustered(representatives: np.ndarray, clusters: int, *, normalize: bool) -> np.ndarray:
    """The means of so many clusters `[clusters, dim]`; all, if there are no more, or for 0."""
    if not clusters or len(representatives) <= clusters:
        return representatives
    means = np.asarray(kmeans(jax.random.key(0), representatives, clusters).centroids, np.float32)
    return means / np.linalg.norm(means, axis=1, keepdims=True).clip(1e-12) if normalize else means


def negatives_of(
    photographs: Sequence[Photograph], representatives: Mapping[Label, np.ndarray]
) -> dict[Label, np.ndarray]:
    """What competes with each class, `[n, dim]`: of photographs that lack it, the regions most like it."""
    found: dict[Label, list[np.ndarray]] = {}
    for photograph in photographs:
        for label in photograph.lacks:
            if label in representatives:
                far = squared_distances(photograph.features, representatives[label]).min(axis=1)
                nearest = np.argsort(far, kind="stable")[:NEGATIVES]
                found.setdefault(label, []).append(photograph.features[nearest])
    return {label: np.concatenate(parts) for label, parts in found.items()}


def squared_distances(features: np.ndarray, others: np.ndarray) -> np.ndarray:
    """`[n, m]` of `[n, dim]` and `[m, dim]`."""
    lengths = np.sum(np.square(features), axis=1)[:, None] + np.sum(np.square(others), axis=1)
    return np.maximum(lengths - 2 * features @ others.T, 0)


def renumbered(photographs: Sequence[Photograph], first: int) -> tuple[Photograph, ...]:
    """The same with numbers from `first` on."""
    return tuple(replace(one, number=one.number + first) for one in photographs)
