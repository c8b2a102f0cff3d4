"""Few-shot accuracy over many episodes, from embeddings computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.data.batches import fill_rows, own_batches, read_filled
from fsljax.data.samplers.episodes import Episodes
from fsljax.deprecated import names_of
from fsljax.distances import float64, normalize, squared_euclidean
from fsljax.errors import UserError
from fsljax.evaluation.arrays import checked_rows, is_real
from fsljax.parallel.devices import ONE, Devices

_FLOATS_A_CHUNK = 4_000_000
_SHORTEST = 1e-30  # of a prototype's square, that it can be divided by


@dataclass(frozen=True)
class Setting:
    """A kind of test episode: `way` classes with `shot` support and `queries` query images each."""

    way: int
    shot: int
    queries: int

    @property
    def name(self) -> str:
        return f"{self.way}way_{self.shot}shot"

    def key(self, key: jax.Array) -> jax.Array:
        """A random key for this setting: its episodes do not depend on which other settings are evaluated."""
        for number in (self.way, self.shot, self.queries):
            key = jax.random.fold_in(key, number)
        return key


def mean_and_ci95(values: np.ndarray) -> tuple[float, float]:
    """Mean over episodes, and the half-width of its 95 % interval: 1.96 standard errors.

    Args:
      values: `[episodes]`, the accuracy of each episode.

    Returns:
      mean and half-width; the half-width is NaN for a single episode.

    Raises:
      UserError: if there are no episodes, or a value is not finite.
    """
    values = np.asarray(values)
    if values.ndim != 1 or not len(values) or not is_real(values) or not np.isfinite(values).all():
        raise UserError(
            "The accuracies must be [episodes], with one finite number for each of 1 or more episodes."
        )
    values = values.astype(np.float64)
    if len(values) < 2:
        return float(values.mean()), float("nan")
    return float(values.mean()), float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))


Classify = Callable[[jax.Array, jax.Array], jax.Array]
"""Maps support `[way, shot, dim]` and queries `[way, n, dim]` to predicted classes int32 `[way, n]`."""


def episode_accuracies(
    embeddings: jax.Array | np.ndarray,
    episodes: Episodes,
    *,
    shot: int,
    distance: str = "squared_euclidean",
    classify: Classify | None = None,
    devices: Devices = ONE,
) -> np.ndarray:
    """Accuracy of each episode, by the nearest prototype unless another rule is given.

    Args:
      embeddings: `[n, dim]`, of the images that episodes index.
      episodes: `images` `[episodes, way, shot + queries]`.
      shot: number of support images per class.
      distance: "squared_euclidean" or "cosine"; must be the former if `classify` is given.
      classify: classification rule; must be hashable, because it is compiled in. None: nearest prototype.
      devices: devices to distribute the episodes over.

    Returns:
      float64 `[episodes]`.

    Raises:
      UserError: if the embeddings are not finite numbers `[n, dim]`, or episodes index beyond them.
      ValueError: if `distance` is unknown, or `shot` leaves no support or no queries.
    """
    given = checked_rows(embeddings, "embeddings", keep_float64=True)
    images = _checked_images(episodes, len(given))
    if distance == "squared_euclidean" and given.dtype == np.float64:
        given = given - given.mean(axis=0)
    rows = jnp.asarray(given, jnp.float32)
    if distance == "squared_euclidean":
        # Distances don't change when all points move: near the origin the products keep their digits.
        rows = rows - jnp.mean(rows, axis=0)
    count, way, drawn = images.shape
    chunk = max(1, min(count, _FLOATS_A_CHUNK // (way * drawn * rows.shape[1])))
    each = min(chunk, -(-count // len(devices)))
    of_devices = _shares_of_chunks(devices, shot, distance, classify)
    everywhere = devices.replicate(rows)
    parts = [
        of_devices(everywhere, devices.put_rows(read_filled(images, numbers)))
        for numbers in own_batches(count, each, devices)
    ]
    accuracies, open_still = (
        np.concatenate([np.asarray(part[place]) for part in parts])[:count] for place in (0, 1)
    )
    accuracies = accuracies.astype(np.float64)
    again = np.flatnonzero(open_still)
    for start in range(0, len(again), chunk):
        which = again[start : start + chunk]
        with float64():
            exact = _exact_accuracies(
                jnp.asarray(given, jnp.float64), fill_rows(images[which], chunk), shot, distance
            )
        accuracies[which] = np.asarray(exact)[: len(which)]
    return accuracies


def _checked_images(episodes: Episodes, count: int) -> np.ndarray:
    """Rows that episodes point to: compiled code would take another where one does not exist."""
    images = np.asarray(episodes.images)
    if images.ndim != 3 or images.dtype.kind not in "iu" or 0 in images.shape:
        raise UserError(
            f"The episodes' images are {images.dtype} {list(images.shape)}; they must be whole numbers "
            "[episodes, way, shot + queries]."
        )
    if images.min() < 0 or images.max() >= count:
        raise UserError(
            f"The episodes refer to rows {images.min()} to {images.max()}, but there are {count:,} of them."
        )
    return images


@cache
def _shares_of_chunks(
    devices: Devices, shot: int, distance: str, classify: Classify | None
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    return devices.over_rows(partial(_chunk_accuracies, shot=shot, distance=distance, classify=classify))


def _chunk_accuracies(
    embeddings: jax.Array, images: jax.Array, shot: int, distance: str, classify: Classify | None
) -> tuple[jax.Array, jax.Array]:
    """Accuracies `[episodes]`, and whether rounding leaves one open."""

    def of_episode(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        drawn = embeddings[rows]
        right = predict(drawn, shot=shot, distance=distance, classify=classify)[1]
        left_open = jnp.bool_(False) if classify is not None else _open(drawn, shot, distance)
        return jnp.mean(right), left_open

    return jax.vmap(of_episode)(images)


@partial(jax.jit, static_argnames=("shot", "distance"))
def _exact_accuracies(embeddings: jax.Array, images: jax.Array, shot: int, distance: str) -> jax.Array:
    """The same by differences in float64; `embeddings` as they are given."""

    def accuracy(rows: jax.Array) -> jax.Array:
        drawn = embeddings[rows]
        if distance == "cosine":
            # Of vectors of length 1 the squared distance is twice the cosine's.
            drawn = drawn.at[:, shot:].set(normalize(drawn[:, shot:]))
        queries, prototypes = drawn[:, shot:], jnp.mean(drawn[:, :shot], axis=1)
        if distance == "cosine":
            prototypes = normalize(prototypes)
        way, count, dim = queries.shape
        queries = queries.reshape(way * count, dim)
        far = squared_euclidean(queries, prototypes)
        if distance == "cosine":  # a prototype of zeros has no direction
            sides = jnp.sum(jnp.square(queries), axis=-1)[:, None] + 1
            far = jnp.where(jnp.any(prototypes != 0, axis=-1), far, sides)
        nearest = jnp.argmin(far.reshape(way, count, way), axis=-1)
        return jnp.mean(nearest == jnp.arange(way)[:, None])

    return jax.lax.map(accuracy, images)


def _open(embeddings: jax.Array, shot: int, distance: str) -> jax.Array:
    """Whether a query of an episode is as near to two prototypes as the rounding of products can tell."""
    way, _, dim = embeddings.shape
    if way == 1:
        return jnp.bool_(False)
    scores, prototypes = _scores(embeddings, shot, distance)
    lengths = jnp.sqrt(jnp.sum(jnp.square(embeddings[:, shot:]), axis=-1))
    squares = jnp.sum(jnp.square(prototypes), axis=-1)
    longest = jnp.sqrt(jnp.max(squares))
    size = lengths if distance == "cosine" else longest * (lengths + longest)
    error = (dim + shot + 8) * jnp.finfo(jnp.float32).eps * size
    too_short = jnp.min(squares) < _SHORTEST if distance == "cosine" else False
    # The best one is among these; sorting would take longer than all the rest.
    near_best = ~(jnp.max(scores, axis=-1, keepdims=True) - scores > 2 * error[..., None])
    return jnp.any(jnp.sum(near_best, axis=-1) > 1) | too_short


def predict(
    embeddings: jax.Array,
    *,
    shot: int,
    distance: str = "squared_euclidean",
    classify: Classify | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Classifies the queries of one episode by the nearest prototype, or by a given rule.

    Args:
      embeddings: `[way, shot + queries, dim]`, near the origin (see `episode_accuracies`).
      shot: number of support embeddings per class.
      distance: "squared_euclidean" or "cosine".
      classify: a rule to use instead.

    Returns:
      predicted classes, int32, and whether they are correct, `[way, queries]` each.

    Raises:
      ValueError: if `distance` is unknown, or `shot` leaves no support or no queries.
    """
    if distance not in ("squared_euclidean", "cosine"):
        raise ValueError(f"distance is {distance!r}; it can be 'squared_euclidean' or 'cosine'.")
    way, drawn, _ = embeddings.shape
    if not 0 < shot < drawn:
        raise ValueError(
            f"shot is {shot}; it must leave both support and queries out of {drawn} images per class."
        )
    queries = embeddings[:, shot:]
    if classify is not None:
        predicted = classify(embeddings[:, :shot], queries)
        return predicted, predicted == jnp.arange(way)[:, None]
    predicted = jnp.argmax(_scores(embeddings, shot, distance)[0], axis=-1)
    return predicted, predicted == jnp.arange(way)[:, None]


def _scores(embeddings: jax.Array, shot: int, distance: str) -> tuple[jax.Array, jax.Array]:
    """Scores `[way, queries, way]`, the higher the nearer, and the prototypes `[way, dim]`."""
    prototypes = jnp.mean(embeddings[:, :shot], axis=1)
    scores = jnp.einsum("wqd,cd->wqc", embeddings[:, shot:], prototypes, precision="highest")
    if distance == "cosine":
        # The query's own length scales all its scores alike and cannot change their order.
        scores = scores * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(prototypes), -1), _SHORTEST))
    else:
        scores = scores - 0.5 * jnp.sum(jnp.square(prototypes), axis=-1)
    return scores, prototypes


__getattr__ = names_of(__name__)
