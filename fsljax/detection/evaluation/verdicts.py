"""Right and wrong detections in episodes, judged where they are found; figures over episodes."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.detection.evaluation.average_precision import Judged, class_average_precisions
from fsljax.detection.ops.boxes import iou

_RECALL_STEPS = 2_000


class Verdict(NamedTuple):
    """Of the detections of an image: bool `[n]` each.

    Attributes:
      right: those that found a truth.
      counted: all but padding and those that took a difficult truth.
    """

    right: jax.Array
    counted: jax.Array


class Verdicts(NamedTuple):
    """What became of the detections of episodes, in any order.

    Attributes:
      scores: `[episodes, n]`.
      labels: int `[episodes, n]`, 0 … way − 1.
      right: bool `[episodes, n]`.
      counted: bool `[episodes, n]`.
      positives: int `[episodes, way]`, truths to be found.
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
        """`[episodes]`: the mean average precision over those of an episode's classes that have truths."""
        return np.array(
            [
                np.nanmean(class_average_precisions(self.of_episode(number)))
                for number in range(len(self.scores))
            ]
        )


def judge_image(
    boxes: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    truth_boxes: jax.Array,
    truth_labels: jax.Array,
    truth_mask: jax.Array,
    difficult: jax.Array,
    *,
    iou_threshold: float = 0.5,
) -> Verdict:
    """`fsljax.detection.evaluation.average_precision.judge` by the rule of VOC, compiled, for one image.

    A detection answers for the truth of its class with which it overlaps most. It is right if it is the
    first to do so by `iou_threshold` or more.

    Args:
      boxes: `[n, 4]` of detections, best first.
      labels: int `[n]`.
      valid: bool `[n]`.
      truth_boxes: `[t, 4]`.
      truth_labels: int `[t]`.
      truth_mask: bool `[t]`.
      difficult: bool `[t]`, which count neither as found nor as missed.
      iou_threshold: least overlap.
    """
    overlap = iou(boxes, truth_boxes)
    overlap = jnp.where((labels[:, None] == truth_labels) & truth_mask & valid[:, None], overlap, -1.0)
    best = jnp.argmax(overlap, axis=1)
    near = jnp.max(overlap, axis=1) >= iou_threshold
    claims = near[:, None] & (best[:, None] == jnp.arange(len(truth_boxes)))
    first = jnp.any(claims & (jnp.cumsum(claims, axis=0) == 1), axis=1)
    of_difficult = near & difficult[best]
    return Verdict(first & ~of_difficult, valid & ~of_difficult)


def resampled_pooled(verdicts: Verdicts, times: np.ndarray) -> np.ndarray:
    """Pooled average precisions of samples of the episodes, for a bootstrap.

    Ranks are taken in 2,000 steps of equal recall: precision changes less within one than an interval tells.

    Args:
      verdicts: of the episodes.
      times: int `[samples, episodes]`, how often each episode is in each sample.

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
    found, wrong = np.cumsum(hits, axis=1), np.cumsum(misses, axis=1)
    precision = found / np.maximum(found + wrong, 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return (hits * best).sum(axis=1) / np.maximum(times @ verdicts.positives.sum(axis=1), 1)


def resamples(episodes: int, count: int = 2_000, seed: int = 0) -> np.ndarray:
    """How often each episode is drawn, with replacement, in each sample: int `[count, episodes]`."""
    return np.random.default_rng(seed).multinomial(episodes, np.full(episodes, 1 / episodes), size=count)


def half_width(figures: np.ndarray) -> float:
    """Half the width of the central 95 % of a bootstrap's figures `[samples]`."""
    lower, upper = np.percentile(figures, (2.5, 97.5))
    return float(upper - lower) / 2


def _ranked(scores: np.ndarray, labels: np.ndarray, right: np.ndarray, positives: np.ndarray) -> Judged:
    order = np.argsort(-scores, kind="stable")
    return Judged(scores[order], labels[order], right[order], positives)
