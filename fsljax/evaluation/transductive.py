"""Few-shot accuracy with batch norm statistics computed from each test episode's own images."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from fsljax.data.batches import own_batches
from fsljax.data.samplers.episodes import Episodes
from fsljax.evaluation.episodic import episode_accuracies
from fsljax.parallel.devices import ONE, Devices

_IMAGES_A_CHUNK = 400


def transductive_accuracies(
    embed_episodes: Callable[[np.ndarray | jax.Array], jax.Array],
    images: np.ndarray,
    episodes: Episodes,
    *,
    shot: int,
    distance: str = "squared_euclidean",
    devices: Devices = ONE,
) -> np.ndarray:
    """Accuracy of nearest-prototype classification in each episode, with its images embedded together.

    Queries influence one another through the statistics, so report this separately from results with running
    averages.

    Args:
      embed_episodes: compiled; uint8 `[episodes, n, height, width, channel]` to `[episodes, n, dim]`. For
        several devices, made with `devices.over_rows`.
      images: uint8 `[m, height, width, channel]`, which episodes index.
      episodes: `images` `[episodes, way, shot + queries]`.
      shot: number of support images per class.
      distance: "squared_euclidean" or "cosine".
      devices: devices to distribute the episodes over.

    Returns:
      float64 `[episodes]`.
    """
    rows = np.asarray(episodes.images)
    count, way, drawn = rows.shape
    chunk = max(1, _IMAGES_A_CHUNK // (way * drawn))
    whole = chunk * len(devices)
    places = np.arange(whole * way * drawn).reshape(whole, way, drawn)
    parts = []
    for numbers in own_batches(count, chunk, devices):
        given = devices.put_rows(images[rows[numbers % count].reshape(len(numbers), -1)])
        embeddings = embed_episodes(given).reshape(whole * way * drawn, -1)
        embedded = Episodes(episodes.classes, places)
        parts.append(episode_accuracies(embeddings, embedded, shot=shot, distance=distance, devices=devices))
    return np.concatenate(parts)[:count]
