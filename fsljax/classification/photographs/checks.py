"""Photographs that look mislabelled, and those that lie in two classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fsljax.classification.heads.common import unit

_ROWS_A_BLOCK = 1_000


class Mislabelled(NamedTuple):
    """A photograph that the others take for one of another class.

    Attributes:
      row: which.
      predicted: the other class.
      probability: of it.
    """

    row: int
    predicted: int
    probability: float


class Duplicate(NamedTuple):
    """Two photographs of different classes that show the same.

    Attributes:
      first, second: which.
      exact: whether every pixel is the same.
      cosine: of their embeddings.
    """

    first: int
    second: int
    exact: bool
    cosine: float


def mislabelled(
    predictions: np.ndarray, probabilities: np.ndarray, labels: np.ndarray, *, least: float
) -> list[Mislabelled]:
    """Photographs that are taken for another class, the surest first.

    Args:
      predictions: int `[n]`, by the other photographs.
      probabilities: `[n, classes]`; NaN where a photograph was not told.
      labels: int `[n]`.
      least: probability of the other class.
    """
    of_predicted = np.nan_to_num(probabilities[np.arange(len(labels)), predictions])
    rows = np.flatnonzero((predictions != labels) & (of_predicted >= least))
    rows = rows[np.argsort(-of_predicted[rows], kind="stable")]
    return [Mislabelled(int(row), int(predictions[row]), float(of_predicted[row])) for row in rows]


def duplicates(
    embeddings: np.ndarray, labels: np.ndarray, digests: Sequence[bytes], *, least: float
) -> list[Duplicate]:
    """Pairs of photographs of different classes that show the same, exact copies first.

    Args:
      embeddings: `[n, dim]`.
      labels: int `[n]`.
      digests: of their pixels.
      least: cosine of embeddings from which two show the same.
    """
    rows = unit(embeddings)
    _, copies = np.unique(np.array([digest.hex() for digest in digests]), return_inverse=True)
    found = []
    for start in range(0, len(rows), _ROWS_A_BLOCK):
        block = slice(start, start + _ROWS_A_BLOCK)
        cosines = rows[block] @ rows.T
        same = copies[block, None] == copies
        alike = (cosines >= least) | same
        alike &= (labels[block, None] != labels) & (np.arange(len(rows)) > np.arange(len(rows))[block, None])
        for first, second in np.argwhere(alike):
            exact, cosine = bool(same[first, second]), float(min(cosines[first, second], 1.0))
            found.append(Duplicate(int(first) + start, int(second), exact, cosine))
    return sorted(found, key=lambda pair: (not pair.exact, -pair.cosine))
