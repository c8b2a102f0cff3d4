"""Nearest class mean of centred embeddings (Wang et al., 2019, SimpleShot, arXiv:1911.04623)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import numpy as np

from fsljax.classification.heads import traced
from fsljax.classification.heads.common import (
    Compared,
    Head,
    Supports,
    left_out,
    likeliest_temperature,
    mean_radius,
    softmax,
    squared_distances,
    unit,
)
from fsljax.classification.heads.prototypes import Prototypes
from fsljax.classification.heads.refitted import Refitted
from fsljax.classification.heads.traced import Probabilities

_FEWEST_CLASSES = 5


class CentredMeans(NamedTuple):
    """What embeddings are compared with.

    Attributes:
      centre: `[dim]`, what is taken off them.
      means: `[classes, dim]`.
      temperature: by which distances are divided.
    """

    centre: np.ndarray
    means: np.ndarray
    temperature: float


@dataclass(frozen=True)
class Centered:
    """The nearest class mean after subtracting the mean of all enrolled embeddings.

    Embeddings are normalised to length 1, the mean is subtracted, and they are normalised again; the distance
    is squared Euclidean. Probabilities are softmax(−distance / T).

    Attributes:
      temperature: T; None: maximum likelihood, with each embedding left out in turn.
    """

    temperature: float | None = None
    name = "centered"

    def fitted(self, supports: Supports) -> CentredMeans:
        centre, means = centre_and_means(supports)
        if self.temperature is not None:
            return CentredMeans(centre, means, self.temperature)
        without = left_out(Refitted(Centered(1.0), supports))
        return CentredMeans(centre, means, likeliest_temperature(without.distances, without.labels))

    def settled(self, fitted: CentredMeans) -> Centered:
        return replace(self, temperature=fitted.temperature)

    def telling_unknown(self, supports: Supports) -> Head:
        return telling_unknown_of(supports)

    def compare(self, fitted: CentredMeans, embeddings: np.ndarray) -> Compared:
        distances = squared_distances(centred(embeddings, fitted.centre), fitted.means)
        return Compared(np.argmin(distances, axis=1), softmax(-distances / fitted.temperature), distances)

    def traceable(self, fitted: CentredMeans) -> Probabilities:
        def probabilities(embeddings: jax.Array) -> jax.Array:
            distances = traced.squared_distances(traced.centred(embeddings, fitted.centre), fitted.means)
            return jax.nn.softmax(-distances / fitted.temperature, axis=1)

        return probabilities

    def radius(self, fitted: CentredMeans) -> float:
        return mean_radius(squared_distances(fitted.means, fitted.means))


def telling_unknown_of(supports: Supports) -> Head:
    """The head by whose distances the unknown is told best: of few classes the mean tells nothing."""
    few = len(supports.of_class) < _FEWEST_CLASSES
    if not few:
        return Refitted(Centered(1.0), supports)
    head = Prototypes("cosine", 1.0, unit=True)
    for label, rows in supports.of_class.items():
        head.add([label] * len(rows), rows)
    return head


def centred(embeddings: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Embeddings of length 1 less a mean, of length 1 again; the mean alone stays zero."""
    return unit(unit(embeddings) - mean)


def centre_and_means(supports: Supports) -> tuple[np.ndarray, np.ndarray]:
    """The mean of all embeddings of length 1, and of each class the mean of those centred by it."""
    rows, labels = supports.stacked()
    mean = unit(rows).mean(axis=0, dtype=np.float64)
    if len(rows) == 1:
        mean = np.zeros_like(mean)  # else nothing were left
    moved = centred(rows, mean)
    means = [moved[labels == place].mean(axis=0, dtype=np.float64) for place in range(labels[-1] + 1)]
    return mean, np.stack(means).astype(np.float32)
