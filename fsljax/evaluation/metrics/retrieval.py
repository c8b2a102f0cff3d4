"""Recall@K and MAP@R among the examples themselves, each left out of its own neighbours."""

from __future__ import annotations

import numpy as np

from fsljax.evaluation.arrays import checked_labels, checked_rows
from fsljax.evaluation.retrieval import RECALL_AT, retrieve


def compute(embeddings: np.ndarray, labels: np.ndarray, *, seed: int) -> dict[str, float]:
    """`recall_at_K` for each K below the number of examples, and `map_at_r`, with their intervals.

    Args:
      embeddings: `[n, dim]`.
      labels: `[n]`, classes from 0.
      seed: not used; nothing is random.

    Returns:
      The figures; none where no class has two examples.

    Raises:
      UserError: if a value is not finite, or the labels are not one a row.
    """
    embeddings = checked_rows(embeddings, "embeddings", keep_float64=True)
    labels = checked_labels(labels, len(embeddings), "labels")
    if len(np.unique(labels)) == len(labels):
        return {}
    at = [k for k in RECALL_AT if k < len(labels)]
    return retrieve(embeddings, labels, at=at).figures()
