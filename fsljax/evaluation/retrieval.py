"""Nearest neighbours among embeddings: classification, Recall@K, MAP@R and recovery of a hierarchy.

Distances are Euclidean. Equally near neighbours come in the order of their index. No array of all pairs is
made: queries go through in compiled blocks, each block's candidates found by a matrix product of points moved
near the origin, then ordered by the sum of their squared differences, which loses no digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.errors import UserError
from fsljax.evaluation.arrays import checked_labels, checked_rows, in_blocks
from fsljax.evaluation.paired import accuracy_and_ci95, bootstrap_ci95

RECALL_AT = (1, 2, 4, 8)
# Candidates beyond those asked for: rounding of the product may push a neighbour a few places back.
_SPARE = 16
_FLOATS_A_BLOCK = 16_000_000

Array = jax.Array | np.ndarray


class Retrieval(NamedTuple):
    """Result of `retrieve`, a value for each query that can be answered.

    Attributes:
      answerable: int `[answerable]`, indices of the queries of whose class the gallery has an example.
      recall_at: for each K, bool `[answerable]`: one of the K nearest is of the query's class.
      average_precision_at_r: float64 `[answerable]`; its mean is MAP@R.
    """

    answerable: np.ndarray
    recall_at: dict[int, np.ndarray]
    average_precision_at_r: np.ndarray

    def figures(self) -> dict[str, float]:
        """Means with the half-widths of their 95 % intervals, by their names in `results.json`."""
        figures: dict[str, float] = {}
        for k, recalled in self.recall_at.items():
            figures[f"recall_at_{k}"], figures[f"recall_at_{k}_ci95"] = accuracy_and_ci95(recalled)
        figures["map_at_r"] = float(self.average_precision_at_r.mean())
        figures["map_at_r_ci95"] = bootstrap_ci95(self.average_precision_at_r)
        return figures


class HierarchyRecovery(NamedTuple):
    """Result of `hierarchy_recovery`.

    Attributes:
      predictions: int32 `[n]`, the predicted fine class.
      correct: bool `[n]`, whether it is the right one; the mean is the accuracy of the recovery.
      coarse_correct: bool `[n]`, whether it belongs at least to the right coarse class.
    """

    predictions: np.ndarray
    correct: np.ndarray
    coarse_correct: np.ndarray


def nearest_neighbours(queries: Array, gallery: Array | None = None, *, count: int) -> np.ndarray:
    """The nearest rows of a gallery, nearest first.

    Args:
      queries: `[n, dim]`.
      gallery: `[m, dim]`; None: each query's neighbours are the other queries, itself left out.
      count: how many.

    Returns:
      int32 `[n, count]`, indices into the gallery.

    Raises:
      UserError: if the shapes don't agree, values are not finite, or there are fewer than `count` neighbours.
    """
    queries, gallery = _checked(queries, gallery)
    neighbours = np.empty((len(queries), count), np.int32)
    for where, nearest in _in_order(queries, gallery, count):
        neighbours[where] = nearest
    return neighbours


def knn_predictions(
    queries: Array, gallery: Array | None, gallery_labels: Array, *, neighbours: int = 1
) -> np.ndarray:
    """The commonest class of each query's nearest neighbours; of equally common ones that of the nearest.

    Args:
      queries: `[n, dim]`.
      gallery: `[m, dim]`; None: the queries themselves, each query left out of its own neighbours.
      gallery_labels: `[m]`, classes.
      neighbours: how many have a vote.

    Returns:
      int32 `[n]`, predicted classes; their accuracy over all queries, also those of classes that the gallery
      has not, is the mean of `predictions == labels`.

    Raises:
      UserError: as for `nearest_neighbours`, or if the labels are not one a row.
    """
    labels = checked_labels(gallery_labels, len(queries if gallery is None else gallery), "gallery's labels")
    voters = labels[nearest_neighbours(queries, gallery, count=neighbours)]
    votes = np.zeros(voters.shape, np.int32)
    for place in range(neighbours):
        votes += voters == voters[:, place, None]
    return np.take_along_axis(voters, votes.argmax(axis=1)[:, None], axis=1)[:, 0]


def retrieve(
    queries: Array,
    labels: Array,
    gallery: Array | None = None,
    gallery_labels: Array | None = None,
    *,
    at: Sequence[int] = RECALL_AT,
) -> Retrieval:
    """Recall@K and average precision at R of each query (Musgrave et al. 2020, arXiv 2003.08505).

    With R the number of the gallery's examples of the query's class, the query itself left out, average
    precision at R is 1/R Σ_{i=1…R} P(i), P(i) being the share of the i nearest that are of its class where
    the i-th is, and 0 where it is not. Recall@K is whether any of the K nearest is. Queries with R = 0 have
    no right answer and are left out of both.

    Args:
      queries: `[n, dim]`.
      labels: `[n]`, classes.
      gallery: `[m, dim]`; None: the queries themselves, each query left out of its own neighbours.
      gallery_labels: `[m]`; given with the gallery.
      at: the Ks.

    Raises:
      UserError: if the shapes don't agree, values are not finite, no query has an answer, or a K is above
        the number of neighbours at hand.
    """
    queries, gallery = _checked(queries, gallery)
    labels = checked_labels(labels, len(queries), "labels")
    if gallery is not None:
        if gallery_labels is None:
            raise UserError("A gallery is given without its labels: give gallery_labels too.")
        answers = checked_labels(gallery_labels, len(gallery), "gallery's labels")
    else:
        answers = labels
    totals: np.ndarray = np.bincount(answers, minlength=int(labels.max()) + 1)[labels] - (gallery is None)
    answerable = np.flatnonzero(totals)
    if not len(answerable):
        raise UserError(
            "No query has an example of its class among the others: there is nothing to retrieve."
        )
    recall_at = {k: np.zeros(len(labels), bool) for k in at}
    precisions = np.zeros(len(labels))
    count = max([*at, int(totals.max())])
    for where, nearest in _in_order(queries, gallery, count):
        relevant = answers[nearest] == labels[where, None]
        for k in at:
            recall_at[k][where] = relevant[:, :k].any(axis=1)
        relevant &= np.arange(count) < totals[where, None]
        share = np.cumsum(relevant, axis=1, dtype=np.int32) / np.arange(1, count + 1)
        precisions[where] = (share * relevant).sum(axis=1) / np.maximum(totals[where], 1)
    return Retrieval(
        answerable, {k: recalled[answerable] for k, recalled in recall_at.items()}, precisions[answerable]
    )


def hierarchy_recovery(
    queries: Array,
    fine_labels: Array,
    coarse_of_fine: Array,
    gallery: Array | None = None,
    gallery_fine_labels: Array | None = None,
    *,
    neighbours: int = 1,
) -> HierarchyRecovery:
    """How well fine classes are told apart by an embedding that was trained on coarse ones alone.

    Classes are merged into coarse ones, a network is trained on the coarse labels (Rippel et al. 2016,
    https://arxiv.org/abs/1511.05939, the section on hierarchy recovery), and each test example is given the
    commonest fine label of its nearest neighbours in the embedding (of equally common ones, that of the
    nearest). Neighbours may be of any coarse class, so that an example taken for another coarse class is
    wrong in the fine one too; `coarse_correct` says how many of the errors are of that kind.

    Args:
      queries: `[n, dim]`, embeddings of test examples.
      fine_labels: `[n]`.
      coarse_of_fine: `[fine classes]`, the coarse class that each fine class was merged into.
      gallery: `[m, dim]`, embeddings of examples whose fine labels are known, such as the training set's;
        None: the queries themselves, each query left out of its own neighbours.
      gallery_fine_labels: `[m]`; given with the gallery.
      neighbours: how many have a vote.

    Raises:
      UserError: as for `knn_predictions`, or if a fine label has no coarse class.
    """
    coarse_of_fine = checked_labels(coarse_of_fine, len(coarse_of_fine), "coarse classes")
    fine = len(coarse_of_fine)
    labels = checked_labels(fine_labels, len(queries), "fine labels", num_classes=fine)
    if gallery is None:
        answers = labels
    elif gallery_fine_labels is None:
        raise UserError("A gallery is given without its labels: give gallery_fine_labels too.")
    else:
        name = "gallery's fine labels"
        answers = checked_labels(gallery_fine_labels, len(gallery), name, num_classes=fine)
    predictions = knn_predictions(queries, gallery, answers, neighbours=neighbours)
    return HierarchyRecovery(
        predictions, predictions == labels, coarse_of_fine[predictions] == coarse_of_fine[labels]
    )


def _checked(queries: Array, gallery: Array | None) -> tuple[np.ndarray, np.ndarray | None]:
    queries = checked_rows(queries, "embeddings")
    if gallery is None:
        return queries, None
    gallery = checked_rows(gallery, "gallery's embeddings")
    if gallery.shape[1] != queries.shape[1]:
        raise UserError(
            f"The embeddings are {list(queries.shape)} and the gallery's {list(gallery.shape)}: "
            "both must come from one network."
        )
    return queries, gallery


def _in_order(
    queries: np.ndarray, gallery: np.ndarray | None, count: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of queries with their nearest neighbours' indices `[block, count]`, nearest first."""
    alone = gallery is None
    gallery = queries if gallery is None else gallery
    others, dim = len(gallery) - alone, gallery.shape[1]
    if not 0 < count <= others:
        raise UserError(
            f"{count} nearest neighbours are asked for, but each query has {others}: ask for 1 to {others}, "
            "or give more examples."
        )
    candidates = min(count + _SPARE, others)
    size = max(1, min(len(queries), _FLOATS_A_BLOCK // (2 * len(gallery) + candidates * (dim + 4))))
    centre = gallery.mean(axis=0, dtype=np.float64).astype(np.float32)
    points = jnp.asarray(gallery - centre)
    half_squares = jnp.sum(jnp.square(points), axis=-1) / 2
    themselves = np.arange(len(queries), dtype=np.int32) if alone else np.full(len(queries), -1, np.int32)

    def nearest(block: np.ndarray, themselves: np.ndarray) -> jax.Array:
        return _nearest(block - centre, themselves, points, half_squares, count=count, candidates=candidates)

    return in_blocks(nearest, queries, themselves, size=size)


@partial(jax.jit, static_argnames=("count", "candidates"))
def _nearest(
    queries: jax.Array,
    themselves: jax.Array,
    points: jax.Array,
    half_squares: jax.Array,
    *,
    count: int,
    candidates: int,
) -> jax.Array:
    scores = jnp.matmul(queries, points.T, precision="highest") - half_squares
    scores = jnp.where(jnp.arange(len(points)) == themselves[:, None], -jnp.inf, scores)
    _, nearest = jax.lax.top_k(scores, candidates)
    distances = jnp.sum(jnp.square(queries[:, None] - points[nearest]), axis=-1)
    _, ordered = jax.lax.sort((distances, nearest), num_keys=2)
    return ordered[:, :count]
