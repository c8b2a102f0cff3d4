"""A map of embeddings: points, one colour and shape a class or cluster, and an example image a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fsljax.reporting.pictures import are_drawings, data_uri
from fsljax.reporting.projection import tsne

WIDTH, HEIGHT, MARGIN, THUMB = 760, 560, 34, 46
NUM_COLOURS = 8
_RADIUS, _CENTROID_RADIUS = 4.2, 8.5
_NUM_SHAPES = 4


@dataclass(frozen=True)
class Clusters:
    """Clusters of the training set, several a class.

    Attributes:
      centroids: `[classes, k, dim]`.
      counts: `[classes, k]`, examples of each; one of 0 does not exist.
    """

    centroids: np.ndarray
    counts: np.ndarray

    def __post_init__(self) -> None:
        if np.ndim(self.centroids) != 3 or np.shape(self.centroids)[:2] != np.shape(self.counts):
            raise ValueError(
                f"Centroids {list(np.shape(self.centroids))} and counts {list(np.shape(self.counts))} "
                "must be [classes, k, dim] and [classes, k]."
            )

    def nearest(self, embeddings: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The nearest cluster of its own class, 0 … k − 1, of each embedding `[n, dim]`; 0 if it has none."""
        nearest = np.zeros(len(labels), int)
        for label in np.unique(labels):
            members = labels == label
            centroids = np.asarray(self.centroids[label], np.float64)
            far = ((np.asarray(embeddings, np.float64)[members, None] - centroids) ** 2).sum(-1)
            nearest[members] = np.where(np.asarray(self.counts[label]) > 0, far, np.inf).argmin(1)
        return nearest


@dataclass(frozen=True)
class MapCluster:
    """One cluster of a class on the map, or the whole class where it has none.

    Attributes:
      path: SVG path of all its points.
      marker: SVG path of one point at the origin.
      hollow: drawn as an outline, for the shapes are used up.
      centroid: SVG path of the mark of its centroid; empty where it has none.
    """

    path: str
    marker: str
    hollow: bool = False
    centroid: str = ""


@dataclass(frozen=True)
class MapClass:
    """One class on the map; lengths are in units of the drawing.

    Attributes:
      name: as the user wrote it.
      colour: 1 … `NUM_COLOURS`, a variable of the page's style.
      clusters: in order; one where no clusters are shown.
      image: `data:` address of its example.
      centre: the median of its points.
      thumb: middle of the place for the example.
    """

    name: str
    colour: int
    clusters: tuple[MapCluster, ...]
    image: str
    centre: tuple[float, float]
    thumb: tuple[float, float]

    @property
    def clustered(self) -> bool:
        """Whether more than one cluster of it is told apart."""
        return len(self.clusters) > 1


def subsample(
    labels: np.ndarray, *, max_points: int = 600, max_classes: int = 20, seed: int = 0
) -> np.ndarray:
    """Indices into `labels [n]` of at most `max_points` points of at most `max_classes` classes, evenly."""
    generator = np.random.default_rng(seed)
    present = np.unique(labels)
    if len(present) > max_classes:
        present = np.sort(generator.choice(present, max_classes, replace=False))
    each = max(1, max_points // len(present))
    chosen = [generator.permutation(np.flatnonzero(labels == c))[:each] for c in present]
    return np.sort(np.concatenate(chosen))


def draw_map(
    embeddings: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    images: np.ndarray,
    clusters: Clusters | None = None,
) -> tuple[list[MapClass], bool]:
    """Places every class; also says whether the images are drawings in ink.

    Args:
      embeddings: `[n, dim]`.
      labels: `[n]`, indices into `class_names`.
      class_names: one a class.
      images: `[n, h, w, channel]`.
      clusters: those of each class are told apart by shape, and their centroids placed with the points.
    """
    drawings = are_drawings(images)
    present = np.unique(labels)
    clusters_of_points = None if clusters is None else clusters.nearest(embeddings, labels)
    marked, together = np.zeros((0, 2), int), np.asarray(embeddings)
    if clusters is not None:
        exists = np.asarray(clusters.counts) > 0
        exists &= np.isin(np.arange(len(exists)), present)[:, None]
        marked = np.argwhere(exists)
        together = np.concatenate([together, np.asarray(clusters.centroids)[exists]])
    everything = _fit(tsne(together))
    layout, centroids = everything[: len(labels)], everything[len(labels) :]
    centres = np.array([np.median(layout[labels == c], axis=0) for c in present])
    # An example may hide a few points, but hardly a centroid.
    thumbs = _place_thumbs(np.concatenate([layout, np.repeat(centroids, 10, axis=0)]), centres)
    classes = []
    for index, label in enumerate(present):
        members = np.flatnonzero(labels == label)
        example = members[((layout[members] - centres[index]) ** 2).sum(1).argmin()]
        if clusters_of_points is None:
            shown = [_cluster(layout[members], index // NUM_COLOURS)]
        else:
            of_class = marked[:, 0] == label
            shown = [
                _cluster(
                    layout[members[clusters_of_points[members] == cluster]],
                    cluster,
                    centroids[of_class & (marked[:, 1] == cluster)],
                    hollow=cluster // _NUM_SHAPES % 2 == 1,
                )
                for cluster in np.union1d(clusters_of_points[members], marked[of_class, 1])
            ]
        classes.append(
            MapClass(
                name=str(class_names[label]),
                colour=index % NUM_COLOURS + 1,
                clusters=tuple(shown),
                image=data_uri(images[example], side=72, drawing=drawings),
                centre=(round(float(centres[index, 0]), 1), round(float(centres[index, 1]), 1)),
                thumb=(round(float(thumbs[index, 0]), 1), round(float(thumbs[index, 1]), 1)),
            )
        )
    return classes, drawings


def _fit(layout: np.ndarray) -> np.ndarray:
    """Stretches a layout `[n, 2]` over the drawing, leaving its margin."""
    low, high = layout.min(0), layout.max(0)
    room = np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN])
    span = np.where(high > low, high - low, 1.0)
    return MARGIN + (layout - low) / span * room


def _place_thumbs(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Gives each centre `[classes, 2]` a place `[classes, 2]` nearby, hiding few points and no image.

    The classes in the thick of the map choose first, for they have the least room.
    """
    angles = np.arange(24) * (2 * np.pi / 24)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    offsets = np.concatenate([np.zeros((1, 2)), *(radius * ring for radius in (38, 52, 68, 88, 112, 140))])
    half = THUMB / 2
    crowding = ((points[None] - centres[:, None]) ** 2).sum(-1) < (2 * THUMB) ** 2
    placed = np.full_like(centres, np.inf)
    for index in np.argsort(-crowding.sum(1), kind="stable"):
        places = centres[index] + offsets
        places = places.clip(half + 3, [WIDTH - half - 3, HEIGHT - half - 3])
        hidden = (np.abs(points[None] - places[:, None]) < half + _RADIUS).all(-1).sum(1)
        collisions = (np.abs(placed[None] - places[:, None]) < THUMB + 4).all(-1).sum(1)
        distance = np.sqrt(((places - centres[index]) ** 2).sum(1))
        placed[index] = places[(hidden + 60 * collisions + distance / 14).argmin()]
    return placed


def _cluster(
    points: np.ndarray, shape: int, centroid: np.ndarray | None = None, *, hollow: bool = False
) -> MapCluster:
    """Points `[n, 2]` and at most one centroid `[1, 2]` in one shape."""
    return MapCluster(
        path="".join(_marker(x, y, shape) for x, y in points),
        marker=_marker(0, 0, shape),
        hollow=hollow,
        centroid="".join(
            _marker(x, y, shape, _CENTROID_RADIUS) for x, y in ([] if centroid is None else centroid)
        ),
    )


def _marker(x: float, y: float, shape: int, r: float = _RADIUS) -> str:
    """A point as a closed SVG path: disc, square, diamond or triangle, of about equal area."""
    match shape % _NUM_SHAPES:
        case 0:
            return f"M{x - r:.1f},{y:.1f}a{r},{r} 0 1,0 {2 * r},0a{r},{r} 0 1,0 {-2 * r},0z"
        case 1:
            side = 1.8 * r
            return f"M{x - side / 2:.1f},{y - side / 2:.1f}h{side:.1f}v{side:.1f}h{-side:.1f}z"
        case 2:
            d = 1.3 * r
            return f"M{x - d:.1f},{y:.1f}l{d:.1f},{-d:.1f}l{d:.1f},{d:.1f}l{-d:.1f},{d:.1f}z"
        case _:
            d = 1.25 * r
            return f"M{x:.1f},{y - d:.1f}l{d:.1f},{2 * d:.1f}h{-2 * d:.1f}z"
