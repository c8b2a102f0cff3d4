"""Counts correct and wrong detections as the published code of Karlinsky et al. (2019) does.

Within an image and a class, the highest-scoring detection that overlaps with an object is correct; further
detections of it are ignored, whereas VOC's rule counts them as wrong. Among detections on an object of
another class, the best one of each class is wrong and further ones are ignored; a detection on no object is
wrong. Source: `PerfStats.comp_epi_stats_m` of https://github.com/jshtok/RepMet.

Difficult objects and crowds, which the published code does not support, need not be found, and detections on
nothing else are ignored.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.detection.data.structures import Detections, GroundTruth
from fsljax.detection.evaluation.average_precision import average_precision
from fsljax.detection.evaluation.judging import Judged
from fsljax.detection.ops.boxes import covered, iou


class Counts(NamedTuple):
    """How often each detection counts, `[…, n]`: it may be the best one of several objects.

    Attributes:
      right: int, number of times it is correct.
      wrong: int, number of times it is wrong.
    """

    right: jax.Array | np.ndarray
    wrong: jax.Array | np.ndarray


def count_image(detections: Detections, ground_truth: GroundTruth, *, iou_threshold: float = 0.5) -> Counts:
    """Counts the detections of one image, compiled.

    Args:
      detections: `[n, …]`, by decreasing score.
      ground_truth: `[t, …]`.
      iou_threshold: minimum IoU.
    """
    boxes, true_boxes = jnp.asarray(detections.boxes), jnp.asarray(ground_truth.boxes)
    labels, mask = jnp.asarray(detections.labels), jnp.asarray(ground_truth.mask)
    valid = jnp.ones(labels.shape, bool) if detections.valid is None else jnp.asarray(detections.valid)
    overlap, ignored = iou(boxes, true_boxes), jnp.zeros(mask.shape, bool)
    if ground_truth.difficult is not None:
        ignored |= jnp.asarray(ground_truth.difficult)
    if ground_truth.crowd is not None:
        ignored |= jnp.asarray(ground_truth.crowd)
        overlap = jnp.where(ground_truth.crowd, covered(boxes, true_boxes), overlap)
    near = (overlap >= iou_threshold) & mask & valid[:, None]
    of_class = near & (labels[:, None] == ground_truth.labels)
    hits = of_class & ~ignored
    right = jnp.sum(_first(hits), axis=1)
    on_own = jnp.any(of_class, axis=1, keepdims=True)
    same = (labels[:, None] == labels) & valid
    # Of each class the best one on each object of another class: none of its class comes before.
    misses = near & ~on_own
    before = jnp.einsum("nm,mt->nt", jnp.tril(same, -1).astype(jnp.int32), misses.astype(jnp.int32))
    wrong = jnp.sum(misses & (before == 0), axis=1) + (valid & ~jnp.any(near, axis=1))
    return Counts(right.astype(jnp.int16), wrong.astype(jnp.int16))


def judged_by_counts(scores: np.ndarray, labels: np.ndarray, counts: Counts, positives: np.ndarray) -> Judged:
    """Ranks detections, each as often as it counts.

    Args:
      scores: `[…, n]`.
      labels: int `[…, n]`.
      counts: counts of the detections.
      positives: int `[classes]`, number of objects to be found.
    """
    right, wrong = (np.asarray(part).reshape(-1) for part in counts)
    order = np.argsort(-np.asarray(scores).reshape(-1), kind="stable")
    times = (right + wrong)[order]  # a detection is right or wrong, never both
    rows = np.repeat(order, times)
    flat_scores, flat_labels = np.asarray(scores).reshape(-1), np.asarray(labels).reshape(-1)
    return Judged(flat_scores[rows], flat_labels[rows], right[rows] > 0, positives)


def pooled_ignoring_duplicates(
    scores: np.ndarray, labels: np.ndarray, counts: Counts, positives: np.ndarray
) -> float:
    """The average precision of all detections ranked together, in [0, 1]; arguments as in `judged_by_counts`.

    This is the pooled AP of Karlinsky et al. (2019); NaN if there are no objects.
    """
    return average_precision(judged_by_counts(scores, labels, counts, positives))


def _first(chosen: jax.Array) -> jax.Array:
    """Of each column `[n, t]` the first row that is chosen."""
    return chosen & (jnp.cumsum(chosen, axis=0) == 1)
