"""Draws episodes on the device: classes, and images of each."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from fsljax.data.dataset import places_in_class


class ClassTable(NamedTuple):
    """Positions of the images of each class.

    Attributes:
      rows: int32 `[classes, most]`, positions of a class's images in the data set; entries beyond a class's
        count are never read.
      counts: int32 `[classes]`.
    """

    rows: jax.Array | np.ndarray
    counts: jax.Array | np.ndarray


class Episodes(NamedTuple):
    """Drawn episodes.

    Attributes:
      classes: int32 `[..., way]`.
      images: int32 `[..., way, shot + queries]`, positions in the data set; the first `shot` of each class
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
      limit: exclusive upper bound of the integers, `[]`, at least `count`; may be traced.
      count: number of integers to draw.

    Returns:
      int32 `[count]`.

    Raises:
      ValueError: if `limit` is a Python number below `count`.
    """
    chex.assert_rank(limit, 0)
    if isinstance(limit, int) and limit < count:
        raise ValueError(f"There are no {count} distinct integers below {limit}.")
    steps = jnp.arange(count, dtype=jnp.int32)
    limits = jnp.maximum(jnp.asarray(limit, jnp.int32) - steps, 1)
    ranks = jax.random.randint(key, (count,), 0, limits, jnp.int32)

    def draw(taken: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        # `taken` is sorted and filled up with integers out of reach. The r-th integer not taken is r plus
        # the number of those taken that lie before it.
        _, rank = step
        before = jnp.sum(taken - steps <= rank, dtype=jnp.int32)
        drawn = rank + before
        return jnp.sort(taken.at[-1].set(drawn)), drawn

    out_of_reach = jnp.full((count,), jnp.iinfo(jnp.int32).max, jnp.int32)
    _, drawn = jax.lax.scan(draw, out_of_reach, (steps, ranks))
    return drawn


class Groups(NamedTuple):
    """Groups of classes, such as alphabets; some episodes take all their classes from one group.

    Attributes:
      members: int32 `[groups, most]`, classes of each group; entries beyond a group's count are never read.
      counts: int32 `[groups]`, each at least the way of the episodes.
      share: float32 `[]`, fraction of episodes within one group.
    """

    members: jax.Array | np.ndarray
    counts: jax.Array | np.ndarray
    share: jax.Array | np.ndarray


def groups_of(labels: np.ndarray, *, way: int, share: float = 1.0) -> Groups:
    """Groups with at least `way` classes.

    Args:
      labels: `[classes]`, the group 0, 1, … of each class.
      way: classes per episode.
      share: fraction of episodes within one group; the others draw from all classes.

    Returns:
      `Groups` of NumPy arrays.

    Raises:
      ValueError: if no group has `way` classes.
    """
    members, counts = class_table(labels)
    enough = np.asarray(counts) >= way
    if not enough.any():
        raise ValueError(f"No group has {way} classes; the largest has {np.max(counts)}.")
    return Groups(np.asarray(members)[enough], np.asarray(counts)[enough], np.array(share, np.float32))


def draw_grouped_classes(key: jax.Array, groups: Groups, classes: int, way: int) -> jax.Array:
    """Draws `way` distinct classes, from one group or from all.

    A group is drawn with probability proportional to its size, so that classes are equally likely.

    Args:
      key: a JAX random key.
      groups: the groups of the classes.
      classes: number of classes.
      way: number of classes to draw.

    Returns:
      int32 `[way]`.
    """
    members, counts, share = map(jnp.asarray, groups)
    kind_key, group_key, within_key, all_key = jax.random.split(key, 4)
    ends = jnp.cumsum(counts)
    group = jnp.searchsorted(ends, jax.random.randint(group_key, (), 0, ends[-1]), side="right")
    within = members[group, draw_distinct(within_key, counts[group], way)]
    anywhere = draw_distinct(all_key, classes, way)
    return jnp.where(jax.random.uniform(kind_key) < share, within, anywhere)


def draw_episode(
    key: jax.Array, table: ClassTable, *, way: int, shot: int, queries: int, groups: Groups | None = None
) -> Episodes:
    """Draws one episode: `way` distinct classes, then distinct images of each.

    Args:
      key: a JAX random key.
      table: the images of each class; every class needs `shot + queries`.
      way: number of classes.
      shot: support images per class.
      queries: query images per class.
      groups: groups of classes; see `draw_grouped_classes`. None: draw from all classes.

    Returns:
      `Episodes` without leading axes.

    Raises:
      ValueError: if there are fewer than `way` classes, or no class has `shot + queries` images.
    """
    rows, counts = map(jnp.asarray, table)
    if shot + queries > rows.shape[1]:
        raise ValueError(f"shot {shot} + queries {queries} exceed the largest class, {rows.shape[1]} images.")
    class_key, image_key = jax.random.split(key)
    if groups is None:
        classes = draw_distinct(class_key, len(counts), way)
    else:
        classes = draw_grouped_classes(class_key, groups, len(counts), way)
    columns = jax.vmap(lambda k, limit: draw_distinct(k, limit, shot + queries))(
        jax.random.split(image_key, way), counts[classes]
    )
    return Episodes(classes, rows[classes[:, None], columns])


def draw_episodes(
    key: jax.Array,
    table: ClassTable,
    count: int,
    *,
    way: int,
    shot: int,
    queries: int,
    groups: Groups | None = None,
) -> Episodes:
    """Draws `count` independent episodes; see `draw_episode`."""
    return jax.vmap(lambda k: draw_episode(k, table, way=way, shot=shot, queries=queries, groups=groups))(
        jax.random.split(key, count)
    )
