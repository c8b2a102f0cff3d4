"""Correct and wrong detections in episodes, and metrics over episodes."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.detection.data.structures import Detections, GroundTruth
from fsljax.detection.evaluation.average_precision import (
    COCO_DETECTIONS,
    COCO_IOUS,
    class_average_precisions,
)
from fsljax.detection.evaluation.judging import Judged
from fsljax.detection.ops.boxes import covered, iou

_RECALL_STEPS = 2_000


class Verdict(NamedTuple):
    """Verdicts on the detections of an image, bool `[n]` each.

    Attributes:
      right: detections that found an object.
      counted: all except padding and detections matched to a difficult object.
    """

    right: jax.Array
    counted: jax.Array


class Verdicts(NamedTuple):
    """Verdicts on the detections of episodes, in any order.

    Attributes:
      scores: `[episodes, n]`.
      labels: int `[episodes, n]`, 0 … way − 1.
      right: bool `[episodes, n]`.
      counted: bool `[episodes, n]`.
      positives: int `[episodes, way]`, number of objects to be found.
    """

    scores: np.ndarray
    labels: np.ndarray
    right: np.ndarray
    counted: np.ndarray
    positives: np.ndarray

    def of_episode(self, number: int) -> Judged:
        """The detections of one episode, ranked."""
        kept = self.counted[number]
        return _ranked(
            self.scores[number][kept],
            self.labels[number][kept],
            self.right[number][kept],
            self.positives[number],
        )

    def pooled(self) -> Judged:
        """The detections of all episodes, ranked together."""
        kept = self.counted
        return _ranked(self.scores[kept], self.labels[kept], self.right[kept], self.positives.sum(axis=0))

    def mean_average_precisions(self) -> np.ndarray:
        """Mean average precision `[episodes]`, over the classes of an episode that have objects."""
        return np.array(
            [
                np.nanmean(class_average_precisions(self.of_episode(number)))
                for number in range(len(self.scores))
            ]
        )


def judge_image(detections: Detections, ground_truth: GroundTruth, *, iou_threshold: float = 0.5) -> Verdict:
    """`fsljax.detection.evaluation.judging.judge` by the rule of VOC, compiled, for one image.

    A detection is matched to the object of its class that it overlaps most. It is correct if it is the first
    one matched with an IoU of at least `iou_threshold`.

    Args:
      detections: `[n, …]`, by decreasing score.
      ground_truth: `[t, …]`; difficult objects, crowds among them, count neither as found nor as missed.
      iou_threshold: minimum IoU.
    """
    overlap, valid, difficult = _overlaps(detections, ground_truth)
    if ground_truth.crowd is not None:
        crowd = jnp.asarray(ground_truth.crowd)
        on_object = jnp.any((overlap >= iou_threshold) & ~crowd, axis=1, keepdims=True)
        overlap = jnp.where(on_object & crowd, -1.0, overlap)
    best = jnp.argmax(overlap, axis=1)
    near = jnp.max(overlap, axis=1) >= iou_threshold
    claims = near[:, None] & (best[:, None] == jnp.arange(len(difficult)))
    first = jnp.any(claims & (jnp.cumsum(claims, axis=0) == 1), axis=1)
    of_difficult = near & difficult[best]
    return Verdict(first & ~of_difficult, valid & ~of_difficult)


def judge_image_as_coco(detections: Detections, ground_truth: GroundTruth) -> Verdict:
    """`judge` by the rule of COCO at each of its IoU thresholds, compiled, for one image.

    Args:
      detections: `[n, …]`, by decreasing score; the first 100 of each class count.
      ground_truth: `[t, …]`, at least one object.

    Returns:
      Bool `[ious, n]` each.
    """
    overlap, valid, difficult = _overlaps(detections, ground_truth)
    labels = jnp.asarray(detections.labels)
    before = jnp.tril((labels[:, None] == labels) & valid, -1)
    valid &= jnp.sum(before, axis=1) < COCO_DETECTIONS
    overlap = jnp.where(valid[:, None], overlap, -1.0)
    objects = jnp.arange(len(difficult))
    crowd = jnp.zeros(len(difficult), bool) if ground_truth.crowd is None else ground_truth.crowd

    def at(threshold: jax.Array) -> Verdict:
        def take(free: jax.Array, row: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            near = (row >= threshold) & (free | crowd)
            near = jnp.where(jnp.any(near & ~difficult), near & ~difficult, near)
            # Of equal overlaps the last counts, as in COCO's own code.
            best = len(difficult) - 1 - jnp.argmax(jnp.where(near, row, -1.0)[::-1])
            took = jnp.any(near)
            verdict = took & ~difficult[best], took & difficult[best]
            return free & ~(took & (objects == best)), verdict

        _, (right, ignored) = jax.lax.scan(take, jnp.ones(len(difficult), bool), overlap)
        return Verdict(right, valid & ~ignored)

    return jax.vmap(at)(jnp.asarray(COCO_IOUS, overlap.dtype))


def coco_of_episode(scores: np.ndarray, labels: np.ndarray, verdict: Verdict, positives: np.ndarray) -> float:
    """COCO's average precision in one episode: the mean over IoU thresholds and classes with objects.

    Args:
      scores: `[n]`.
      labels: int `[n]`.
      verdict: bool `[ious, n]` each.
      positives: int `[way]`, number of objects to be found.
    """
    order = np.argsort(-scores, kind="stable")
    precisions = []
    for right, counted in zip(np.asarray(verdict.right), np.asarray(verdict.counted), strict=True):
        ranked = order[counted[order]]
        judged = Judged(scores[ranked], labels[ranked], right[ranked], positives)
        precisions.append(class_average_precisions(judged, interpolation="101"))
    return float(np.nanmean(precisions))


def resampled_pooled(verdicts: Verdicts, times: np.ndarray) -> np.ndarray:
    """Pooled average precision of bootstrap samples of the episodes.

    Ranks are divided into 2,000 steps of equal recall, within which precision changes less than the
    resolution of an interval.

    Args:
      verdicts: verdicts of the episodes.
      times: int `[samples, episodes]`, multiplicity of each episode in each sample.

    Returns:
      `[samples]`.
    """
    counted = verdicts.counted
    order = np.argsort(-verdicts.scores[counted], kind="stable")
    episode = np.broadcast_to(np.arange(len(counted))[:, None], counted.shape)[counted][order]
    right = verdicts.right[counted][order]
    before = np.cumsum(right) - right
    total = max(int(right.sum()), 1)
    steps = min(_RECALL_STEPS, total)
    step = before * steps // total  # a wrong one is counted with the next right one, the last ones never
    hits, misses = (
        times
        @ np.bincount(episode[rows] * steps + step[rows], minlength=len(counted) * steps)
        .reshape(-1, steps)
        .astype(np.float64)
        for rows in ((step < steps) & right, (step < steps) & ~right)
    )
    right_so_far, wrong_so_far = np.cumsum(hits, axis=1), np.cumsum(misses, axis=1)
    precision = right_so_far / np.maximum(right_so_far + wrong_so_far, 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (hits * best).sum(axis=1) / np.maximum(times @ verdicts.positives.sum(axis=1), 1)


def resamples(episodes: int, count: int = 2_000, seed: int = 0) -> np.ndarray:
    """Multiplicity of each episode, drawn with replacement, in each sample: int `[count, episodes]`."""
    return np.random.default_rng(seed).multinomial(episodes, np.full(episodes, 1 / episodes), size=count)


def half_width(figures: np.ndarray) -> float:
    """Half-width of the central 95 % of bootstrap values `[samples]`."""
    lower, upper = np.percentile(figures, (2.5, 97.5))
    return float(upper - lower) / 2


def _overlaps(detections: Detections, ground_truth: GroundTruth) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Overlap `[n, t]` where classes agree, else −1; bool `[n]`, detections there are; bool `[t]`, difficult.

    It is intersection over union; with a crowd, over the detection's own area.
    """
    valid, difficult = detections.valid, ground_truth.difficult
    labels = jnp.asarray(detections.labels)
    there = jnp.ones(labels.shape, bool) if valid is None else jnp.asarray(valid)
    boxes, true_boxes = jnp.asarray(detections.boxes), jnp.asarray(ground_truth.boxes)
    overlap = iou(boxes, true_boxes)
    if ground_truth.crowd is not None:
        overlap = jnp.where(ground_truth.crowd, covered(boxes, true_boxes), overlap)
    overlap = jnp.where(
        (labels[:, None] == ground_truth.labels) & ground_truth.mask & there[:, None], overlap, -1.0
    )
    mask = jnp.asarray(ground_truth.mask)
    ignored = jnp.zeros(mask.shape, bool) if difficult is None else jnp.asarray(difficult)
    return overlap, there, ignored if ground_truth.crowd is None else ignored | ground_truth.crowd


def _ranked(scores: np.ndarray, labels: np.ndarray, right: np.ndarray, positives: np.ndarray) -> Judged:
    order = np.argsort(-scores, kind="stable")
    return Judged(scores[order], labels[order], right[order], positives)
