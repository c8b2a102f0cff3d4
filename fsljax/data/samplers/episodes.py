"""Episodes drawn on the device: which images of which classes."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from fsljax.data.dataset import places_in_class


class ClassTable(NamedTuple):
    """Where the images of each class are.

    Attributes:
      rows: int32 `[classes, most]`, positions of a class's images in the data set; what lies beyond a
        class's count is never read.
      counts: int32 `[classes]`.
    """

    rows: jax.Array | np.ndarray
    counts: jax.Array | np.ndarray


class Episodes(NamedTuple):
    """Drawn episodes.

    Attributes:
      classes: int32 `[..., way]`.
      images: int32 `[..., way, shot + queries]`, positions in the data set; the first `shot` of a class
        are its support.
    """

    classes: jax.Array | np.ndarray
    images: jax.Array | np.ndarray


def class_table(labels: np.ndarray) -> ClassTable:
    """Table of the images of each class.

    Args:
      labels: `[n]`, classes 0, 1, …

    Returns:
      A `ClassTable` of NumPy arrays.
    """
    labels = np.asarray(labels)
    counts = np.bincount(labels)
    rows = np.zeros((len(counts), int(np.max(counts))), np.int32)
    rows[labels, places_in_class(labels)] = np.arange(len(labels))
    return ClassTable(rows, counts.astype(np.int32))


def draw_distinct(key: jax.Array, limit: jax.Array | int, count: int) -> jax.Array:
    """Draws distinct integers below `limit`, every ordered selection equally likely.

    Args:
      key: a JAX random key.
      limit: above the largest integer that can be drawn, `[]`, at least `count`; may be traced.
      count: how many to draw.

    Returns:
      int32 `[count]`.

    Raises:
      ValueError: if `limit` is a Python number below `count`.
    """
    chex.assert_rank(limit, 0)
    if isinstance(limit, int) and limit < count:
        raise ValueError(f"{count} distinct integers below {limit} do not exist.")
    steps = jnp.arange(count)
    ranks = jax.random.randint(key, (count,), 0, jnp.maximum(limit - steps, 1))

    def draw(taken: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        # `taken` is sorted and filled up with integers out of reach. The r-th integer not taken is r plus
        # the number of those taken that lie before it.
        _, rank = step
        before = jnp.sum(taken - steps <= rank)
        drawn = rank + before
        return jnp.sort(taken.at[-1].set(drawn)), drawn

    out_of_reach = jnp.full((count,), jnp.iinfo(jnp.int32).max, jnp.int32)
    _, drawn = jax.lax.scan(draw, out_of_reach, (steps, ranks))
    return drawn


def draw_episode(key: jax.Array, table: ClassTable, *, way: int, shot: int, queries: int) -> Episodes:
    """Draws one episode: `way` distinct classes, then distinct images of each.

    Args:
      key: a JAX random key.
      table: the images of each class; every class needs `shot + queries`.
      way: number of classes.
      shot: support images a class.
      queries: query images a class.

    Returns:
      `Episodes` without leading axes.

    Raises:
      ValueError: if there are fewer than `way` classes, or no class has `shot + queries` images.
    """
    rows, counts = map(jnp.asarray, table)
    if shot + queries > rows.shape[1]:
        raise ValueError(f"shot {shot} + queries {queries} exceed the largest class, {rows.shape[1]} images.")
    class_key, image_key = jax.random.split(key)
    classes = draw_distinct(class_key, len(counts), way)
    columns = jax.vmap(lambda k, limit: draw_distinct(k, limit, shot + queries))(
        jax.random.split(image_key, way), counts[classes]
    )
    return Episodes(classes, rows[classes[:, None], columns])


def draw_episodes(
    key: jax.Array, table: ClassTable, count: int, *, way: int, shot: int, queries: int
) -> Episodes:
    """Draws `count` independent episodes; see `draw_episode`."""
    return jax.vmap(lambda k: draw_episode(k, table, way=way, shot=shot, queries=queries))(
        jax.random.split(key, count)
    )
