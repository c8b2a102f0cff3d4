"""Normalised mutual information of classes and as many clusters."""

from __future__ import annotations

import jax
import numpy as np

from fsljax.clustering import kmeans
from fsljax.evaluation.agreement import normalized_mutual_information


def compute(embeddings: np.ndarray, labels: np.ndarray, *, seed: int) -> dict[str, float]:
    """`nmi`: how well clusters of the embeddings, one for each class, agree with the classes.

    Args:
      embeddings: `[n, dim]`.
      labels: `[n]`, classes from 0.
      seed: of k-means.

    Returns:
      The figure; none where no class has two examples.
    """
    if np.max(np.bincount(labels)) < 2:
        return {}
    clusters = kmeans(jax.random.key(seed), embeddings, len(np.unique(labels)))
    return {"nmi": normalized_mutual_information(np.asarray(clusters.assignments), labels)}
