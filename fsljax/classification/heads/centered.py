"""Classes by the means of centred embeddings (Wang et al., 2019, SimpleShot, arXiv:1911.04623)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

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
from fsljax.data.labels import Label

_FEWEST_CLASSES = 5


class Centered:
    """The nearest class mean, once the mean of all enrolled embeddings is taken off.

    Embeddings are brought to length 1, the mean is subtracted, and they are brought to length 1 again; the
    distance is the squared Euclidean one. Probabilities are softmax(−distance / T), T the likeliest, each
    embedding left out.
    """

    name = "centered"

    def __init__(self, temperature: float | None = None):
        self._temperature = temperature
        self._supports = Supports()
        self._fitted: tuple[np.ndarray, np.ndarray, float] | None = None

    def copy(self) -> Self:
        other = copy.copy(self)
        other._supports = self._supports.copy()
        return other

    def settled(self) -> Self:
        settled = self.copy()
        if settled._temperature is None:  # which changes no distance
            settled._temperature, settled._fitted = 1.0, None
        return settled

    def telling_unknown(self) -> Head:
        return telling_unknown_of(self._supports)

    @property
    def labels(self) -> list[Label]:
        return list(self._supports.of_class)

    @property
    def supports(self) -> Mapping[Label, np.ndarray]:
        return self._supports.of_class

    def add(self, labels: Sequence[Label], embeddings: np.ndarray) -> None:
        self._supports.add(labels, embeddings)
        self._fitted = None

    def forget(self, label: Label) -> None:
        del self._supports.of_class[label]
        self._fitted = None

    def compare(self, embeddings: np.ndarray) -> Compared:
        mean, prototypes, temperature = self._fit()
        distances = squared_distances(centred(embeddings, mean), prototypes)
        return Compared(np.argmin(distances, axis=1), softmax(-distances / temperature), distances)

    def radius(self) -> float:
        _, prototypes, _ = self._fit()
        return mean_radius(squared_distances(prototypes, prototypes))

    def arrays(self) -> dict[str, np.ndarray]:
        return self._supports.arrays()

    def restore(self, labels: Sequence[Label], arrays: Mapping[str, np.ndarray]) -> None:
        self._supports.restore(labels, arrays)
        self._fitted = None

    def _fit(self) -> tuple[np.ndarray, np.ndarray, float]:
        """The mean that is taken off, the prototypes `[classes, dim]`, and the temperature."""
        if self._fitted is None:
            mean, prototypes = centre_and_means(self._supports)
            temperature = self._temperature
            if temperature is None:
                without = left_out(self)
                temperature = likeliest_temperature(without.distances, without.labels)
            self._fitted = mean, prototypes, temperature
        return self._fitted


def telling_unknown_of(supports: Supports) -> Head:
    """The head by whose distances the unknown is told best: of few classes the mean tells nothing."""
    few = len(supports.of_class) < _FEWEST_CLASSES
    head = Prototypes("cosine", 1.0, unit=True) if few else Centered(temperature=1.0)
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
