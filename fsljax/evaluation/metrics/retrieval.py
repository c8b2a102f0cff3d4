"""Recall@K and MAP@R among the examples themselves, each excluded from its own neighbours."""

from __future__ import annotations

import numpy as np

from fsljax.evaluation.arrays import checked_labels, checked_rows
from fsljax.evaluation.retrieval import RECALL_AT, retrieve


def compute(embeddings: np.ndarray, labels: np.ndarray, *, seed: int) -> dict[str, float]:
    """`recall_at_K` for each K below the number of examples, and `map_at_r`, with their confidence intervals.

    Args:
      embeddings: `[n, dim]`.
      labels: `[n]`, classes from 0.
      seed: unused; nothing is random.

    Returns:
      The metrics; empty if no class has two examples.

    Raises:
      UserError: if a value is not finite, or there is not exactly one label per row.
    """
    embeddings = checked_rows(embeddings, "embeddings", keep_float64=True)
    labels = checked_labels(labels, len(embeddings), "labels")
    if len(np.unique(labels)) == len(labels):
        return {}
    at = [k for k in RECALL_AT if k < len(labels)]
    return retrieve(embeddings, labels, at=at).figures()
