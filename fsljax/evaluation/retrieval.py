"""Nearest neighbours among embeddings: classification, Recall@K, MAP@R and recovery of a hierarchy.

Distances are Euclidean, without normalisation, and compared in float64, so that neighbours are ordered
correctly even within tight clusters. Ties are ordered by index.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from fsljax.errors import UserError
from fsljax.evaluation.arrays import checked_labels, checked_rows
from fsljax.evaluation.neighbours import in_order
from fsljax.evaluation.paired import accuracy_and_ci95, bootstrap_ci95
from fsljax.parallel.devices import ONE, Devices

RECALL_AT = (1, 2, 4, 8)

Array = jax.Array | np.ndarray


class Retrieval(NamedTuple):
    """Result of `retrieve`, with a value for each answerable query.

    Attributes:
      answerable: int `[answerable]`, indices of the queries whose class has an example in the gallery.
      recall_at: for each K, bool `[answerable]`: whether one of the K nearest has the query's class.
      average_precision_at_r: float64 `[answerable]`; its mean is MAP@R.
    """

    answerable: np.ndarray
    recall_at: dict[int, np.ndarray]
    average_precision_at_r: np.ndarray

    def figures(self) -> dict[str, float]:
        """Means and the half-widths of their 95 % intervals, by their names in `results.json`."""
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
      correct: bool `[n]`, whether it is correct; the mean is the accuracy of the recovery.
      coarse_correct: bool `[n]`, whether it at least belongs to the correct coarse class.
    """

    predictions: np.ndarray
    correct: np.ndarray
    coarse_correct: np.ndarray


def nearest_neighbours(
    queries: Array, gallery: Array | None = None, *, count: int, devices: Devices = ONE
) -> np.ndarray:
    """The nearest rows of a gallery, nearest first.

    Args:
      queries: `[n, dim]`.
      gallery: `[m, dim]`; None: the neighbours of each query are the other queries.
      count: number of neighbours.
      devices: devices to distribute the queries over.

    Returns:
      int32 `[n, count]`, indices into the gallery.

    Raises:
      UserError: if the shapes do not match, a value is not finite, or there are fewer than `count`
        neighbours.
    """
    queries, gallery = _checked(queries, gallery)
    neighbours = np.empty((len(queries), count), np.int32)
    for where, nearest in in_order(queries, gallery, count, devices):
        neighbours[where] = nearest
    return neighbours


def knn_predictions(
    queries: Array,
    gallery: Array | None,
    gallery_labels: Array,
    *,
    neighbours: int = 1,
    devices: Devices = ONE,
) -> np.ndarray:
    """Most frequent class among each query's nearest neighbours; ties go to that of the nearest.

    Args:
      queries: `[n, dim]`.
      gallery: `[m, dim]`; None: the queries themselves, each excluded from its own neighbours.
      gallery_labels: `[m]`, classes.
      neighbours: number of neighbours that vote.
      devices: devices to distribute the queries over.

    Returns:
      int32 `[n]`, or int64 if labels require it: predicted classes. The accuracy over all queries, including
      those whose class is not in the gallery, is the mean of `predictions == labels`.

    Raises:
      UserError: as in `nearest_neighbours`, or if there is not exactly one label per row.
    """
    labels = checked_labels(gallery_labels, len(queries if gallery is None else gallery), "gallery's labels")
    voters = labels[nearest_neighbours(queries, gallery, count=neighbours, devices=devices)]
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

    Let R be the number of examples of the query's class in the gallery, excluding the query itself. Average
    precision at R is 1/R Σ_{i=1…R} P(i), where P(i) is the fraction of the i nearest that are of the query's
    class if the i-th is, and 0 otherwise. Recall@K is 1 if any of the K nearest is of the query's class.
    Queries with R = 0 have no correct answer and are excluded from both.

    Args:
      queries: `[n, dim]`.
      labels: `[n]`, classes.
      gallery: `[m, dim]`; None: the queries themselves, each excluded from its own neighbours.
      gallery_labels: `[m]`; given with the gallery.
      at: the values of K.

    Raises:
      UserError: if the shapes do not match, a value is not finite, no query has an answer, or a K exceeds the
        number of available neighbours.
    """
    queries, gallery = _checked(queries, gallery)
    labels = checked_labels(labels, len(queries), "labels")
    if gallery is not None:
        if gallery_labels is None:
            raise UserError("A gallery is given without its labels: give gallery_labels too.")
        answers = checked_labels(gallery_labels, len(gallery), "gallery's labels")
    else:
        answers = labels
    labels, answers = _renumbered(labels, answers)
    totals: np.ndarray = np.bincount(answers, minlength=int(labels.max()) + 1)[labels] - (gallery is None)
    answerable = np.flatnonzero(totals)
    if not len(answerable):
        raise UserError(
            "No query has an example of its class among the others: there is nothing to retrieve."
        )
    recall_at = {k: np.zeros(len(labels), bool) for k in at}
    precisions = np.zeros(len(labels))
    count = max([*at, int(totals.max())])
    for where, nearest in in_order(queries, gallery, count):
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
    devices: Devices = ONE,
) -> HierarchyRecovery:
    """How well an embedding trained on coarse classes only distinguishes fine classes.

    Classes are merged into coarse ones, a network is trained on the coarse labels (Rippel et al. 2016,
    https://arxiv.org/abs/1511.05939, the section on hierarchy recovery), and each test example is assigned
    the most frequent fine label among its nearest neighbours in the embedding (ties go to that of the
    nearest). Neighbours may be of any coarse class, so that an example assigned to another coarse class is
    also wrong in its fine class; `coarse_correct` shows how many errors are of that kind.

    Args:
      queries: `[n, dim]`, embeddings of test examples.
      fine_labels: `[n]`.
      coarse_of_fine: `[fine classes]`, the coarse class that each fine class was merged into.
      gallery: `[m, dim]`, embeddings of examples whose fine labels are known, such as the training set's;
        None: the queries themselves, each excluded from its own neighbours.
      gallery_fine_labels: `[m]`; given with the gallery.
      neighbours: number of neighbours that vote.
      devices: devices to distribute the queries over.

    Raises:
      UserError: as in `knn_predictions`, or if a fine label has no coarse class.
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
    predictions = knn_predictions(queries, gallery, answers, neighbours=neighbours, devices=devices)
    return HierarchyRecovery(
        predictions, predictions == labels, coarse_of_fine[predictions] == coarse_of_fine[labels]
    )


def _checked(queries: Array, gallery: Array | None) -> tuple[np.ndarray, np.ndarray | None]:
    queries = checked_rows(queries, "embeddings", keep_float64=True)
    if gallery is None:
        return queries, None
    gallery = checked_rows(gallery, "gallery's embeddings", keep_float64=True)
    if gallery.shape[1] != queries.shape[1]:
        raise UserError(
            f"The embeddings are {list(queries.shape)} and the gallery's {list(gallery.shape)}: both must "
            "come from the same network."
        )
    return queries, gallery


def _renumbered(labels: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same classes by numbers from 0 without gaps: labels may be ids as large as they like."""
    _, numbers = np.unique(np.concatenate([labels, answers]), return_inverse=True)
    return numbers[: len(labels)], numbers[len(labels) :]
