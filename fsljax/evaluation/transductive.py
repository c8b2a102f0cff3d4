"""Few-shot accuracy when batch norm takes the statistics of each test episode's own images."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from fsljax.data.batches import fill_rows
from fsljax.data.samplers.episodes import Episodes
from fsljax.evaluation.episodic import episode_accuracies

_IMAGES_A_CHUNK = 400


def transductive_accuracies(
    embed_episodes: Callable[[np.ndarray], jax.Array],
    images: np.ndarray,
    episodes: Episodes,
    *,
    shot: int,
    distance: str = "squared_euclidean",
) -> np.ndarray:
    """Accuracy of nearest-prototype classification in each episode, its images embedded together.

    Queries see each other through the statistics: a figure apart from that of running averages.

    Args:
      embed_episodes: compiled; uint8 `[episodes, n, height, width, channel]` to `[episodes, n, dim]`.
      images: uint8 `[m, height, width, channel]`, which episodes point to.
      episodes: `images` `[episodes, way, shot + queries]`.
      shot: how many of each class's images are its support.
      distance: "squared_euclidean" or "cosine".

    Returns:
      float64 `[episodes]`.
    """
    rows = np.asarray(episodes.images)
    count, way, drawn = rows.shape
    chunk = max(1, _IMAGES_A_CHUNK // (way * drawn))
    places = np.arange(chunk * way * drawn).reshape(chunk, way, drawn)
    parts = []
    for start in range(0, count, chunk):
        part = rows[start : start + chunk]
        filled = fill_rows(part, chunk)
        embeddings = embed_episodes(images[filled.reshape(chunk, -1)]).reshape(chunk * way * drawn, -1)
        embedded = Episodes(episodes.classes, places)
        accuracies = episode_accuracies(embeddings, embedded, shot=shot, distance=distance)
        parts.append(accuracies[: len(part)])
    return np.concatenate(parts)
