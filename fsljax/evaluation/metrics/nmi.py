"""Normalised mutual information between the classes and equally many clusters."""

from __future__ import annotations

import jax
import numpy as np

from fsljax.clustering import kmeans
from fsljax.evaluation.agreement import normalized_mutual_information
from fsljax.evaluation.arrays import checked_labels, checked_rows


def compute(embeddings: np.ndarray, labels: np.ndarray, *, seed: int) -> dict[str, float]:
    """`nmi`: agreement of the classes with as many k-means clusters of the embeddings.

    Args:
      embeddings: `[n, dim]`.
      labels: `[n]`, classes from 0.
      seed: seed of k-means.

    Returns:
      The metric; empty if no class has two examples.

    Raises:
      UserError: if a value is not finite, or there is not exactly one label per row.
    """
    embeddings = checked_rows(embeddings, "embeddings", keep_float64=True)
    labels = checked_labels(labels, len(embeddings), "labels")
    if len(np.unique(labels)) == len(labels):
        return {}
    clusters = kmeans(jax.random.key(seed), embeddings, len(np.unique(labels)))
    return {"nmi": normalized_mutual_information(np.asarray(clusters.assignments), labels)}
