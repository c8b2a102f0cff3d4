"""Classes by representatives of a network that knows nothing of them (Karlinsky et al., 2019)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import jax.numpy as jnp
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
from fsljax.classification.heads.comparison import of_support
from fsljax.data.labels import Label

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


class Posteriors:
    """RepMet's soft posteriors, Σ_j p_ij / Σ_i Σ_j p_ij, of representatives that were enrolled.

    Embeddings are centred as those of `Centered`; σ is the likeliest of several, each embedding left out.

    Attributes:
      per_class: representatives of a class at most, by k-means; 0: every embedding is one.
    """

    name = "representatives"

    def __init__(self, per_class: int = 0, sigma: float | None = None):
        self.per_class = per_class
        self._sigma = sigma
        self._supports = Supports()
        self._fitted: _Fitted | None = None

    def copy(self) -> Self:
        other = copy.copy(self)
        other._supports = self._supports.copy()
        return other

    def settled(self) -> Self:
        settled = self.copy()
        settled._sigma = self._fit().sigma
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
        squares = squared_distances(centred(embeddings, fitted.centre), fitted.centres)
        logits = _of_classes(-squares / (2 * fitted.sigma**2), fitted.owners, np.logaddexp)
        distances = _of_classes(squares, fitted.owners, np.minimum)
        return Compared(np.argmax(logits, axis=1), softmax(logits), distances.astype(np.float32))

    def radius(self) -> float:
        fitted = self._fit()
        columns = _of_classes(squared_distances(fitted.centres, fitted.centres), fitted.owners, np.minimum)
        return mean_radius(_of_classes(columns.T, fitted.owners, np.minimum).T)

    def arrays(self) -> dict[str, np.ndarray]:
        return {**self._supports.arrays(), "per_class": np.array(self.per_class)}

    def restore(self, labels: Sequence[Label], arrays: Mapping[str, np.ndarray]) -> None:
        self.per_class = int(arrays["per_class"])
        self._supports.restore(labels, arrays)
        self._fitted = None

    def _fit(self) -> _Fitted:
        if self._fitted is None:
            rows, labels = self._supports.stacked()
            centre, _ = centre_and_means(self._supports)
            moved = centred(rows, centre)
            made = [self._representatives(moved[labels == place]) for place in range(labels[-1] + 1)]
            owners = np.repeat(np.arange(len(made)), [len(of_class) for of_class in made])
            sigma = likeliest_sigma(moved, labels) if self._sigma is None else self._sigma
            self._fitted = _Fitted(centre, np.concatenate(made), owners, sigma)
        return self._fitted

    def _representatives(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(of_support(jnp.asarray(rows)[None], self.per_class)[0])


def likeliest_sigma(rows: np.ndarray, labels: np.ndarray) -> float:
    """The σ under which embeddings are the likeliest that are left out one by one.

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
