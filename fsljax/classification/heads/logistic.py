"""Classes by multinomial logistic regression on their embeddings."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np

from fsljax.classification.heads.centered import centre_and_means, centred, telling_unknown_of
from fsljax.classification.heads.common import (
    Compared,
    Head,
    Supports,
    mean_radius,
    softmax,
    squared_distances,
)
from fsljax.classification.heads.regression import fit_regression, likeliest_penalty, powers
from fsljax.data.labels import Label


class _Fitted(NamedTuple):
    """A regression, and centred class means, by whose distances the unknown is told.

    Attributes:
      weights: float32 `[dim, classes]`.
      bias: float32 `[classes]`.
      penalty: its strength.
      powered, centre: what was taken off the embeddings with powers, and without.
      means: `[classes, dim]`.
      roots: whether square roots were taken.
    """

    weights: np.ndarray
    bias: np.ndarray
    penalty: float
    powered: np.ndarray
    centre: np.ndarray
    means: np.ndarray
    roots: bool


class Logistic:
    """The likeliest class by multinomial logistic regression with an L2 penalty.

    Embeddings without a negative value are replaced by their square roots, whose values are spread less
    (Hu, Gripon and Pateux, 2021, arXiv:2006.03806); then they are brought to length 1, centred, and brought
    to length 1 again. The strength of the penalty is the likeliest of several, the embeddings left out by
    turns; with one embedding a class it is a middling one. `distances` are those of `Centered`.
    """

    name = "logistic"

    def __init__(self, penalty: float | None = None):
        """No classes.

        Args:
          penalty: its strength; None: the likeliest.
        """
        self._penalty = penalty
        self._supports = Supports()
        self._fitted: _Fitted | None = None

    def copy(self) -> Self:
        other = copy.copy(self)
        other._supports = self._supports.copy()
        return other

    def settled(self) -> Self:
        settled = self.copy()
        settled._penalty = self._fit().penalty
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
        fitted = self._fit()
        moved = centred(powers(embeddings) if fitted.roots else embeddings, fitted.powered)
        logits = moved @ fitted.weights + fitted.bias
        distances = squared_distances(centred(embeddings, fitted.centre), fitted.means)
        return Compared(np.argmax(logits, axis=1), softmax(logits), distances)

    def radius(self) -> float:
        means = self._fit().means
        return mean_radius(squared_distances(means, means))

    def arrays(self) -> dict[str, np.ndarray]:
        return self._supports.arrays()

    def restore(self, labels: Sequence[Label], arrays: Mapping[str, np.ndarray]) -> None:
        self._supports.restore(labels, arrays)
        self._fitted = None

    def _fit(self) -> _Fitted:
        if self._fitted is None:
            rows, labels = self._supports.stacked()
            roots = not np.any(rows < 0)
            powered = Supports(
                {name: powers(of) if roots else of for name, of in self._supports.of_class.items()}
            )
            taken_off, _ = centre_and_means(powered)
            moved = centred(powered.stacked()[0], taken_off)
            penalty = likeliest_penalty(moved, labels) if self._penalty is None else self._penalty
            weights, bias = fit_regression(moved, labels, penalty=penalty)
            centre, means = centre_and_means(self._supports)
            self._fitted = _Fitted(weights, bias, penalty, taken_off, centre, means, roots)
        return self._fitted
