"""Nearest class mean of embeddings (Snell, Swersky and Zemel, 2017, arXiv:1703.05175)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.classification.heads import traced
from fsljax.classification.heads.common import (
    Compared,
    Head,
    Supports,
    by_blocks,
    left_out,
    likeliest_temperature,
    mean_radius,
    softmax,
    unit,
)
from fsljax.classification.heads.traced import Probabilities
from fsljax.data.labels import Label
from fsljax.losses.prototypical import DISTANCES


class Prototypes:
    """The nearest class mean.

    Probabilities are softmax(−distance / temperature).
    """

    name = "prototype"

    def __init__(self, distance: str, temperature: float | None, *, unit: bool = False):
        """No classes.

        Args:
          distance: a name of `fsljax.losses.prototypical.DISTANCES`.
          temperature: temperature that distances are divided by; None: maximum likelihood, with each
            embedding left out in turn.
          unit: normalise embeddings to length 1 before averaging.
        """
        self._distance = DISTANCES[distance]
        self._takes_differences = distance == "squared_euclidean"
        self._temperature = temperature
        self._likeliest: float | None = None
        self._unit = unit
        self._supports = Supports()
        self._sums: dict[Label, np.ndarray] = {}
        self._counts: dict[Label, int] = {}

    def copy(self) -> Self:
        other = copy.copy(self)
        other._sums, other._counts = dict(self._sums), dict(self._counts)
        other._supports = self._supports.copy()
        return other

    def settled(self) -> Self:
        settled = self.copy()
        if settled._temperature is None:  # which changes no distance
            settled._temperature = 1.0
        return settled

    def telling_unknown(self) -> Head:
        return self.settled()

    @property
    def labels(self) -> list[Label]:
        return list(self._sums)

    @property
    def supports(self) -> Mapping[Label, np.ndarray]:
        of_class = self._supports.of_class
        return {label: rows for label, rows in of_class.items() if len(rows) == self._counts.get(label)}

    def add(self, labels: Sequence[Label], embeddings: np.ndarray) -> None:
        self._supports.add(labels, embeddings)
        for label, embedding in zip(labels, self._scaled(embeddings), strict=True):
            self._sums[label] = self._sums.get(label, 0) + embedding.astype(np.float64)
            self._counts[label] = self._counts.get(label, 0) + 1
        self._likeliest = None

    def forget(self, label: Label) -> None:
        del self._sums[label], self._counts[label]
        self._supports.of_class.pop(label, None)
        self._likeliest = None

    def compare(self, embeddings: np.ndarray) -> Compared:
        distances = self._between(self._scaled(embeddings), self._means())
        if self._temperature is None or self._unit:
            scale = self._scale() if self._temperature is None else self._temperature
            return Compared(np.argmin(distances, axis=1), softmax(-distances / scale), distances)
        probabilities = jax.nn.softmax(-distances / self._temperature, axis=1)
        return Compared(np.argmin(distances, axis=1), np.asarray(probabilities), distances)

    def traceable(self) -> Probabilities:
        means = self._means()
        scale = self._scale() if self._temperature is None else self._temperature

        def probabilities(embeddings: jax.Array) -> jax.Array:
            if self._unit:
                distances = 1 - traced.product(traced.unit(embeddings), unit(means).T)
            else:
                distances = self._distance(embeddings, jnp.asarray(means))
            return jax.nn.softmax(-distances / scale, axis=1)

        return probabilities

    def radius(self) -> float:
        return mean_radius(self._between(self._means(), self._means()))

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            "counts": np.array(list(self._counts.values()), np.int64),
            "sums": np.array(list(self._sums.values()), np.float64),
            **Supports({label: self._kept(label) for label in self._sums}).arrays(),
        }

    def restore(self, labels: Sequence[Label], arrays: Mapping[str, np.ndarray]) -> None:
        self._sums = dict(zip(labels, arrays["sums"], strict=True))
        self._counts = dict(zip(labels, arrays["counts"].tolist(), strict=True))
        if "supports" in arrays:  # else of an earlier version
            self._supports.restore(labels, arrays)

    def _kept(self, label: Label) -> np.ndarray:
        none = np.zeros((0, len(self._sums[label])), np.float32)
        return self._supports.of_class.get(label, none)

    def _scaled(self, embeddings: np.ndarray) -> np.ndarray:
        return unit(embeddings) if self._unit else embeddings

    def _scale(self) -> float:
        if self._likeliest is None:
            if self.supports:
                without = left_out(self)
                distances, labels = without.distances, without.labels
            else:
                means = self._means()
                distances, labels = self._between(means, means), np.arange(len(means))
                np.fill_diagonal(distances, np.nan)
            self._likeliest = likeliest_temperature(distances, labels)
        return self._likeliest

    def _means(self) -> np.ndarray:
        return np.stack([self._sums[label] / self._counts[label] for label in self._sums]).astype(np.float32)

    def _between(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        if self._unit:  # nothing is compiled for a photograph
            return np.asarray(1 - rows @ unit(others).T, np.float32)

        def of(some: np.ndarray) -> np.ndarray:
            return np.array(self._distance(jnp.asarray(some), jnp.asarray(others)))

        return by_blocks(of, rows, others.size) if self._takes_differences else of(rows)
