"""RepMet's posteriors for networks trained without representatives (Karlinsky et al., 2019)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
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
from fsljax.classification.heads.traced import Probabilities

SIGMAS = np.geomspace(0.1, 1.0, 10)
SIGMA_WITHOUT_CHOICE = 0.4
_MOST_ROWS = 4_000  # from which σ is chosen


class _Fitted(NamedTuple):
    """What embeddings are compared with.

    Attributes:
      centre: `[dim]`, what is taken off them.
      centres: `[r, dim]`, the representatives of all classes.
      owners: int `[r]`, the class of each.
      sigma: σ.
    """

    centre: np.ndarray
    centres: np.ndarray
    owners: np.ndarray
    sigma: float


@dataclass(frozen=True)
class Posteriors:
    """RepMet's soft posteriors, Σ_j p_ij / Σ_i Σ_j p_ij, with each enrolled embedding as a representative.

    Embeddings are centred as in `Centered`.

    Attributes:
      sigma: σ; None: chosen by leave-one-out likelihood.
    """

    sigma: float | None = None
    name = "representatives"

    def fitted(self, supports: Supports) -> _Fitted:
        rows, labels = supports.stacked()
        centre, _ = centre_and_means(supports)
        moved = centred(rows, centre)
        sigma = likeliest_sigma(moved, labels) if self.sigma is None else self.sigma
        return _Fitted(centre, moved, labels, sigma)

    def settled(self, fitted: _Fitted) -> Posteriors:
        return replace(self, sigma=fitted.sigma)

    def telling_unknown(self, supports: Supports) -> Head:
        return telling_unknown_of(supports)

    def compare(self, fitted: _Fitted, embeddings: np.ndarray) -> Compared:
        squares = squared_distances(centred(embeddings, fitted.centre), fitted.centres)
        logits = _of_classes(-squares / (2 * fitted.sigma**2), fitted.owners, np.logaddexp)
        distances = _of_classes(squares, fitted.owners, np.minimum)
        return Compared(np.argmax(logits, axis=1), softmax(logits), distances.astype(np.float32))

    def traceable(self, fitted: _Fitted) -> Probabilities:
        def probabilities(embeddings: jax.Array) -> jax.Array:
            squares = traced.squared_distances(traced.centred(embeddings, fitted.centre), fitted.centres)
            logs = traced.log_sums_of_classes(-squares / (2 * fitted.sigma**2), fitted.owners)
            return jax.nn.softmax(logs, axis=1)

        return probabilities

    def radius(self, fitted: _Fitted) -> float:
        columns = _of_classes(squared_distances(fitted.centres, fitted.centres), fitted.owners, np.minimum)
        return mean_radius(_of_classes(columns.T, fitted.owners, np.minimum).T)


def likeliest_sigma(rows: np.ndarray, labels: np.ndarray) -> float:
    """The σ with the highest leave-one-out likelihood.

    Args:
      rows: `[n, dim]`.
      labels: int `[n]`.
    """
    if len(rows) > _MOST_ROWS:
        chosen = np.linspace(0, len(rows) - 1, _MOST_ROWS).astype(int)
        rows, labels = rows[chosen], labels[chosen]
    counts = np.bincount(labels)
    told = counts[labels] > 1
    if not told.any() or len(counts) < 2:
        return SIGMA_WITHOUT_CHOICE
    squares = np.maximum(2 - 2 * (rows @ rows.T), 0).astype(np.float64)
    np.fill_diagonal(squares, np.inf)
    own = np.where(labels[:, None] == labels, squares, np.inf)
    losses = [
        np.mean(_log_sums(-squares[told] / (2 * s * s)) - _log_sums(-own[told] / (2 * s * s))) for s in SIGMAS
    ]
    return float(SIGMAS[int(np.argmin(losses))])


def _log_sums(values: np.ndarray) -> np.ndarray:
    highest = values.max(axis=1, keepdims=True)
    sums: np.ndarray = np.log(np.exp(values - highest).sum(axis=1)) + highest[:, 0]
    return sums


def _of_classes(values: np.ndarray, owners: np.ndarray, joined: np.ufunc) -> np.ndarray:
    """Columns `[n, classes]` of `[n, r]`, whose columns have owners in ascending order."""
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    columns: np.ndarray = joined.reduceat(np.asarray(values, np.float64), starts, axis=1)
    return columns
