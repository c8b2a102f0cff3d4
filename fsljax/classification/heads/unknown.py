"""How sure a classifier is that an image belongs to a class at all, and from where on it says so."""

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
    """Between distances of what belongs to a class and distances of what belongs to none.

    Attributes:
      middle: the distance at which either is as likely.
      slope: log odds gained by a unit less.
    """

    middle: float
    slope: float

    def confidence(self, nearest: np.ndarray) -> np.ndarray:
        """From 0 to 1, of distances `[n]` to what is nearest of any class."""
        odds = np.clip(self.slope * (self.middle - np.asarray(nearest, np.float64)), -_MOST, _MOST)
        sure: np.ndarray = 1 / (1 + np.exp(-odds))
        return sure


class Distances(NamedTuple):
    """Distances to what is nearest of any class, of enrolled embeddings.

    Attributes:
      known: each without itself.
      unknown: each without its class.
      classes: int `[n]`, the classes of `unknown`.
    """

    known: np.ndarray
    unknown: np.ndarray
    classes: np.ndarray


class Calibration(NamedTuple):
    """Result of `Classifier.calibrate`.

    Attributes:
      threshold: of the confidence, now the classifier's `unknown`.
      auroc: area under the curve of true accepts over false ones: the chance that an image of a class is
        given more confidence than one of none.
      false_accept: share of images of no class that the threshold accepts, as estimated.
      true_accept: share of images of the classes that it accepts, as estimated.
      known, unknown: images that these were estimated from.
    """

    threshold: float
    auroc: float
    false_accept: float
    true_accept: float
    known: int
    unknown: int


def left_out_distances(head: Head) -> Distances:
    """How near enrolled embeddings are to the classes without themselves, and without their class.

    Raises:
      UserError: if fewer than two classes are enrolled, or their embeddings were not kept.
    """
    if len(head.labels) < 2:
        raise UserError("Two classes must be enrolled to tell what is unknown: there is one.")
    if set(head.supports) != set(head.labels):
        raise UserError(
            "The embeddings of the enrolled images were not kept, which an earlier version did not do: enrol "
            "them again."
        )
    telling = head.telling_unknown()
    without = left_out(telling)
    return Distances(without.distances[without.told].min(axis=1), *left_out_classes(telling))


def scale_of(distances: Distances) -> Scale | None:
    """The scale between two kinds of distances; None where there are none, or all of them are 0.

    Log odds of two normal distributions of one variance, as likely as one another. Where either kind is too
    few for that, or they are not told apart, what belongs to a class is taken to lie at half the distance of
    what belongs to none, which is what networks make of classes they were not trained on.
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
    """How sure it is that embeddings belong to the class they are nearest to, float64 `[n]`.

    By the scale; without one p · r / (r + d): the class's probability p, the distance d to what is nearest,
    and r, half of that between a class and its nearest neighbour, in the mean.

    Args:
      head: with the classes.
      scale: of the distances by which `head.telling_unknown` tells.
      embeddings: `[n, dim]`.
      telling: what `head.telling_unknown` gives, where it is at hand.

    Raises:
      UserError: if fewer than two classes are enrolled.
    """
    if len(head.labels) < 2:
        raise UserError("Two classes must be enrolled to tell what is unknown: there is one.")
    if scale is not None:
        return scale.confidence((telling or head.telling_unknown()).compare(embeddings).nearest)
    compared, radius = head.compare(embeddings), head.radius()
    sure: np.ndarray = (
        compared.probabilities.max(axis=1) * radius / np.maximum(radius + compared.nearest, 1e-30)
    )
    return sure


class Share(NamedTuple):
    """A share of values that is taken for a wanted one of further values.

    Attributes:
      level: the share.
      expected: of further values, in the mean.
    """

    level: float
    expected: float


def share_of_further(values: np.ndarray, classes: np.ndarray | None, wanted: float) -> Share:
    """How large a share of values lies beyond a threshold beyond which a wanted share of further ones lies.

    Images of a class lie about as near as one another, and say little more than a single one: by the
    correlation within classes they count for fewer. Of n independent values one in n + 1 further ones lies
    beyond all of them.

    Args:
      values: `[n]`.
      classes: int `[n]`, a further value is of none of them; None: all values are independent.
      wanted: the share.
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
    """The threshold that accepts a share of what is unknown.

    Args:
      known, unknown: confidences of images of the classes, and of none, `[n]`.
      share: of `unknown`.
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
    """The chance that one of `known` is higher than one of `unknown`; half a chance where they are equal."""
    if not len(known) or not len(unknown):
        return float("nan")
    below = np.searchsorted(np.sort(unknown), known, side="left")
    not_above = np.searchsorted(np.sort(unknown), known, side="right")
    return float(np.mean(below + not_above) / 2 / len(unknown))


def checked_threshold(unknown: float | None) -> float | None:
    """A threshold as it is, or a UserError: it is no confidence, nor None."""
    if unknown is not None and not (isinstance(unknown, Real) and 0 <= unknown <= 1):
        raise UserError(f"unknown is {unknown!r}; it must be from 0 to 1, or None.")
    return unknown
