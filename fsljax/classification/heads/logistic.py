"""Classification by multinomial logistic regression on embeddings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.classification.heads import traced
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
from fsljax.classification.heads.traced import Probabilities


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


@dataclass(frozen=True)
class Logistic:
    """Multinomial logistic regression with an L2 penalty.

    Embeddings without negative values are replaced by their square roots, which are less skewed (Hu, Gripon
    and Pateux, 2021, arXiv:2006.03806); then they are normalised to length 1, centred, and normalised again.
    `distances` are those of `Centered`.

    Attributes:
      penalty: strength of the penalty; None: chosen by cross-validated likelihood, or a medium one if no
        class has two embeddings.
    """

    penalty: float | None = None
    name = "logistic"

    def fitted(self, supports: Supports) -> _Fitted:
        rows, labels = supports.stacked()
        roots = not np.any(rows < 0)
        powered = Supports({name: powers(of) if roots else of for name, of in supports.of_class.items()})
        taken_off, _ = centre_and_means(powered)
        moved = centred(powered.stacked()[0], taken_off)
        penalty = likeliest_penalty(moved, labels) if self.penalty is None else self.penalty
        weights, bias = fit_regression(moved, labels, penalty=penalty)
        centre, means = centre_and_means(supports)
        return _Fitted(weights, bias, penalty, taken_off, centre, means, roots)

    def settled(self, fitted: _Fitted) -> Logistic:
        return replace(self, penalty=fitted.penalty)

    def telling_unknown(self, supports: Supports) -> Head:
        return telling_unknown_of(supports)

    def compare(self, fitted: _Fitted, embeddings: np.ndarray) -> Compared:
        moved = centred(powers(embeddings) if fitted.roots else embeddings, fitted.powered)
        logits = moved @ fitted.weights + fitted.bias
        distances = squared_distances(centred(embeddings, fitted.centre), fitted.means)
        return Compared(np.argmax(logits, axis=1), softmax(logits), distances)

    def traceable(self, fitted: _Fitted) -> Probabilities:
        def probabilities(embeddings: jax.Array) -> jax.Array:
            rows = jnp.sqrt(jnp.maximum(embeddings, 0)) if fitted.roots else embeddings
            logits = traced.product(traced.centred(rows, fitted.powered), fitted.weights)
            return jax.nn.softmax(logits + fitted.bias, axis=1)

        return probabilities

    def radius(self, fitted: _Fitted) -> float:
        return mean_radius(squared_distances(fitted.means, fitted.means))
