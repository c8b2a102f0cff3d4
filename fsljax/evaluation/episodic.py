"""Few-shot accuracy over many episodes drawn from embeddings that were computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.data.batches import fill_rows
from fsljax.data.samplers.episodes import Episodes
from fsljax.deprecated import names_of

_FLOATS_A_CHUNK = 4_000_000


@dataclass(frozen=True)
class Setting:
    """A kind of test episode: `way` classes, `shot` support and `queries` query images of each."""

    way: int
    shot: int
    queries: int

    @property
    def name(self) -> str:
        return f"{self.way}way_{self.shot}shot"

    def key(self, key: jax.Array) -> jax.Array:
        """A random key of this setting's own: its episodes don't depend on which others are evaluated."""
        for number in (self.way, self.shot, self.queries):
            key = jax.random.fold_in(key, number)
        return key


def mean_and_ci95(values: np.ndarray) -> tuple[float, float]:
    """Mean over episodes, and the half-width of its 95 % interval: 1.96 standard errors.

    Args:
      values: `[episodes]`, the accuracy of each episode.

    Returns:
      mean and half-width; the half-width of a single episode is NaN, for nothing is known of it.
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return float(values.mean()), float("nan")
    return float(values.mean()), float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))


Classify = Callable[[jax.Array, jax.Array], jax.Array]
"""Names queries `[way, queries, dim]` by a support `[way, shot, dim]`: classes int32 `[way, queries]`."""


def episode_accuracies(
    embeddings: jax.Array | np.ndarray,
    episodes: Episodes,
    *,
    shot: int,
    distance: str = "squared_euclidean",
    classify: Classify | None = None,
) -> np.ndarray:
    """Accuracy in each episode, by the nearest prototype unless another rule is given.

    Args:
      embeddings: `[n, dim]`, of the images that episodes point to.
      episodes: `images` `[episodes, way, shot + queries]`.
      shot: how many of each class's images are its support.
      distance: "squared_euclidean" or "cosine"; the former with a rule of one's own.
      classify: the rule, hashable, for it is compiled in; None: `predict`.

    Returns:
      float64 `[episodes]`.

    Raises:
      ValueError: if `distance` has another name, or `shot` leaves no support or no queries.
    """
    embeddings = jnp.asarray(embeddings, jnp.float32)
    if distance == "squared_euclidean":
        # Distances don't change when all points move: near the origin the products keep their digits.
        embeddings = embeddings - jnp.mean(embeddings, axis=0)
    images = np.asarray(episodes.images)
    count, way, drawn = images.shape
    chunk = max(1, min(count, _FLOATS_A_CHUNK // (way * drawn * embeddings.shape[1])))
    chunks = [fill_rows(images[start : start + chunk], chunk) for start in range(0, count, chunk)]
    accuracies = [_chunk_accuracies(embeddings, part, shot, distance, classify) for part in chunks]
    return np.concatenate([np.asarray(part) for part in accuracies])[:count].astype(np.float64)


@partial(jax.jit, static_argnames=("shot", "distance", "classify"))
def _chunk_accuracies(
    embeddings: jax.Array, images: jax.Array, shot: int, distance: str, classify: Classify | None
) -> jax.Array:
    def accuracy(rows: jax.Array) -> jax.Array:
        return jnp.mean(predict(embeddings[rows], shot=shot, distance=distance, classify=classify)[1])

    return jax.vmap(accuracy)(images)


def predict(
    embeddings: jax.Array,
    *,
    shot: int,
    distance: str = "squared_euclidean",
    classify: Classify | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Classifies the queries of one episode by the nearest prototype, or by the rule given.

    Args:
      embeddings: `[way, shot + queries, dim]`, near the origin (see `episode_accuracies`).
      shot: how many of each class's are its support.
      distance: "squared_euclidean" or "cosine".
      classify: another rule.

    Returns:
      predicted classes int32 and whether they are right, `[way, queries]` each.

    Raises:
      ValueError: if `distance` has another name, or `shot` leaves no support or no queries.
    """
    if distance not in ("squared_euclidean", "cosine"):
        raise ValueError(f"distance is {distance!r}; it can be 'squared_euclidean' or 'cosine'.")
    way, drawn, _ = embeddings.shape
    if not 0 < shot < drawn:
        raise ValueError(f"shot is {shot}; of {drawn} images a class it must leave support and queries.")
    queries = embeddings[:, shot:]
    if classify is not None:
        predicted = classify(embeddings[:, :shot], queries)
        return predicted, predicted == jnp.arange(way)[:, None]
    prototypes = jnp.mean(embeddings[:, :shot], axis=1)
    scores = jnp.einsum("wqd,cd->wqc", queries, prototypes, precision="highest")
    if distance == "cosine":
        # The query's own length scales all its scores alike and cannot change their order.
        scores = scores * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(prototypes), -1), 1e-30))
    else:
        scores = scores - 0.5 * jnp.sum(jnp.square(prototypes), axis=-1)
    predicted = jnp.argmax(scores, axis=-1)
    return predicted, predicted == jnp.arange(way)[:, None]


__getattr__ = names_of(__name__)
