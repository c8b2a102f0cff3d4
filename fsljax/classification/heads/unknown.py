"""Confidence that an image belongs to any enrolled class, and its threshold."""

from __future__ import annotations

from numbers import Real
from typing import NamedTuple

import numpy as np

from fsljax.classification.heads.common import Head, left_out, left_out_classes
from fsljax.errors import UserError

_FEWEST = 4  # embeddings of either kind, from which a scale is made
_MIDDLE_OF_FEW, _ODDS_OF_FEW = 0.78, 12.0  # where they are fewer, in units of the mean distance of none
_MOST = 60.0  # log odds; beyond, all confidences were equal


class Scale(NamedTuple):
    """Converts distances to the log odds that an image belongs to a class.

    Attributes:
      middle: distance at which known and unknown are equally likely.
      slope: increase of the log odds per unit of decreasing distance.
    """

    middle: float
    slope: float

    def confidence(self, nearest: np.ndarray) -> np.ndarray:
        """Confidence from 0 to 1, from distances `[n]` to the nearest class."""
        odds = np.clip(self.slope * (self.middle - np.asarray(nearest, np.float64)), -_MOST, _MOST)
        sure: np.ndarray = 1 / (1 + np.exp(-odds))
        return sure


class Distances(NamedTuple):
    """Distances of enrolled embeddings to the nearest class.

    Attributes:
      known: each embedding left out of its own class.
      unknown: each embedding with its whole class left out.
      classes: int `[n]`, the classes of `unknown`.
    """

    known: np.ndarray
    unknown: np.ndarray
    classes: np.ndarray


class Calibration(NamedTuple):
    """Result of `Classifier.calibrate`.

    Attributes:
      threshold: threshold of the confidence, now the classifier's `unknown`.
      auroc: area under the ROC curve: the probability that an image of an enrolled class has a higher
        confidence than an image of an unknown class.
      false_accept: estimated fraction of images of unknown classes that the threshold accepts.
      true_accept: estimated fraction of images of enrolled classes that it accepts.
      known, unknown: number of images used for these estimates.
    """

    threshold: float
    auroc: float
    false_accept: float
    true_accept: float
    known: int
    unknown: int


def left_out_distances(head: Head) -> Distances:
    """Distances of enrolled embeddings to the classes, leaving out each embedding or its class.

    Raises:
      UserError: if fewer than two classes are enrolled, or their embeddings were not kept.
    """
    if len(head.labels) < 2:
        raise UserError(
            "Detecting unknown images needs at least two enrolled classes, but there is one: enrol another."
        )
    if set(head.supports) != set(head.labels):
        raise UserError(
            "The embeddings of the enrolled images are missing, because an earlier version did not keep "
            "them: enrol the images again."
        )
    telling = head.telling_unknown()
    without = left_out(telling)
    return Distances(without.distances[without.told].min(axis=1), *left_out_classes(telling))


def scale_of(distances: Distances) -> Scale | None:
    """Fits the scale to known and unknown distances; None if there are none, or all are 0.

    Log odds of two normal distributions of equal variance and equal prior. If there are too few of either
    kind, or they are not separated, known images are assumed to lie at half the distance of unknown ones,
    which is typical of networks on classes they were not trained on.
    """
    known, unknown = (np.asarray(kind, np.float64) for kind in distances[:2])
    if not len(unknown) or not unknown.mean() > 0:
        return None
    if min(len(known), len(unknown)) >= _FEWEST and unknown.mean() > known.mean():
        apart, variance = unknown.mean() - known.mean(), (known.var() + unknown.var()) / 2
        return Scale(float(known.mean() + unknown.mean()) / 2, float(apart / max(variance, apart**2 / _MOST)))
    return Scale(_MIDDLE_OF_FEW * float(unknown.mean()), _ODDS_OF_FEW / float(unknown.mean()))


def confidence(
    head: Head, scale: Scale | None, embeddings: np.ndarray, *, telling: Head | None = None
) -> np.ndarray:
    """Confidence that embeddings belong to their nearest class, float64 `[n]`.

    Computed from the scale; without one, p · r / (r + d), where p is the probability of the class, d the
    distance to the nearest class, and r half the mean distance between a class and its nearest neighbour.

    Args:
      head: head with the classes.
      scale: scale of the distances of `head.telling_unknown`.
      embeddings: `[n, dim]`.
      telling: result of `head.telling_unknown`, if already computed.

    Raises:
      UserError: if fewer than two classes are enrolled.
    """
    if len(head.labels) < 2:
        raise UserError(
            "Detecting unknown images needs at least two enrolled classes, but there is one: enrol another."
        )
    if scale is not None:
        return scale.confidence((telling or head.telling_unknown()).compare(embeddings).nearest)
    compared, radius = head.compare(embeddings), head.radius()
    sure: np.ndarray = (
        compared.probabilities.max(axis=1) * radius / np.maximum(radius + compared.nearest, 1e-30)
    )
    return sure


class Share(NamedTuple):
    """A quantile of observed values, for a target fraction of further values.

    Attributes:
      level: fraction of the observed values.
      expected: expected fraction of further values.
    """

    level: float
    expected: float


def share_of_further(values: np.ndarray, classes: np.ndarray | None, wanted: float) -> Share:
    """Fraction of observed values beyond the threshold that a target fraction of further values exceeds.

    Images of a class lie at similar distances and carry little more information than a single one: they are
    discounted by the correlation within classes. One in n + 1 further values lies beyond all of n independent
    values.

    Args:
      values: `[n]`.
      classes: int `[n]`, further values belong to other classes; None: all values are independent.
      wanted: the target fraction.
    """
    count = len(values) if classes is None else _independent(np.asarray(values, np.float64), classes)
    level = max(((count + 1) * wanted - 1) / count, 0.5 / len(values))
    return Share(level, (level * count + 1) / (count + 1))


def _independent(values: np.ndarray, classes: np.ndarray) -> float:
    """For how many independent values they count, by one-way analysis of variance."""
    names, of, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    count, size = len(values), len(values) / len(names)
    if len(names) < 2 or size <= 1:
        return float(len(names))
    means = np.bincount(of, values) / sizes
    between = size * means.var(ddof=1)
    within = np.sum(np.square(values - means[of])) / (count - len(names))
    correlation = (between - within) / max(between + (size - 1) * within, 1e-30)
    return float(count / (1 + (size - 1) * np.clip(correlation, 0, 1)))


def calibrated(known: np.ndarray, unknown: np.ndarray, share: Share) -> Calibration:
    """The threshold that accepts a given fraction of unknown images.

    Args:
      known, unknown: confidences of images of enrolled and of unknown classes, `[n]`.
      share: fraction of `unknown` to accept.
    """
    threshold = float(np.quantile(unknown, 1 - share.level))
    return Calibration(
        threshold,
        auroc(known, unknown),
        share.expected,
        float(np.mean(known >= threshold)) if len(known) else float("nan"),
        len(known),
        len(unknown),
    )


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """Probability that a value of `known` exceeds one of `unknown`; ties count one half."""
    if not len(known) or not len(unknown):
        return float("nan")
    below = np.searchsorted(np.sort(unknown), known, side="left")
    not_above = np.searchsorted(np.sort(unknown), known, side="right")
    return float(np.mean(below + not_above) / 2 / len(unknown))


def checked_threshold(unknown: float | None) -> float | None:
    """Returns the threshold, or raises a UserError if it is neither None nor from 0 to 1."""
    if unknown is not None and not (isinstance(unknown, Real) and 0 <= unknown <= 1):
        raise UserError(f"unknown is {unknown!r}; it must be from 0 to 1, or None.")
    return unknown
