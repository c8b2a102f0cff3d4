"""Communication between the devices that share a step.

The batch of a step is sharded over a mesh of two axes: episodes over `EPISODES`, the examples of each over
`EXAMPLES`; a batch without episodes counts as one. Every device holds the whole state, draws the whole batch
with the same keys, and takes its share.

The loss of a step is the mean over devices of what each one computes, be it the loss of its share or, from
gathered embeddings, that of the whole batch. The gradient is then the mean of their gradients: derivatives
flow back through gathers and sums.

Outside of a sharded step there is one device, and every function here returns its input.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp

EPISODES, EXAMPLES = AXES = ("episodes", "examples")

# Over a network each array takes its latency; copies of large ones take longer than that.
_JOINED_UP_TO = 1 << 18

Tree = TypeVar("Tree")


class Among(NamedTuple):
    """Positions of rows within a batch.

    Attributes:
      places: int32 `[n]`, the positions.
      whole: number of rows of the batch.
    """

    places: jax.Array
    whole: int


def count() -> int:
    """Number of devices that share a step."""
    return _along(EPISODES) * _along(EXAMPLES)


def number() -> jax.Array:
    """Index of this device among them, int32 `[]`."""
    return _place(EPISODES) * _along(EXAMPLES) + _place(EXAMPLES)


def share(tree: Tree, *, episodes: int = 1) -> Tree:
    """This device's rows of a batch.

    Args:
      tree: arrays `[episodes · n, …]`; the number of episodes must be divisible by `EPISODES`, and the number
        of examples of each by `EXAMPLES`.
      episodes: number of episodes of the batch.

    Returns:
      arrays `[own episodes · own n, …]`.
    """
    if count() == 1:
        return tree
    across, along = _along(EPISODES), _along(EXAMPLES)

    def here(rows: jax.Array) -> jax.Array:
        rows = jnp.asarray(rows)
        size = len(rows) // episodes // along
        blocks = rows.reshape(across, episodes // across, along, size, *rows.shape[1:])
        return blocks[_place(EPISODES), :, _place(EXAMPLES)].reshape(-1, *rows.shape[1:])

    shared: Tree = jax.tree.map(here, tree)
    return shared


def own(episodes: int) -> int:
    """Number of a batch's episodes that this device has a share of."""
    return episodes // _along(EPISODES)


def among(size: int, *, episodes: int = 1) -> Among | None:
    """Positions of this device's `size` rows within the batch; None: they are the whole batch."""
    whole = size * count()
    return None if whole == size else Among(share(jnp.arange(whole), episodes=episodes), whole)


def drawn(
    draw: Callable[[int], jax.Array], size: int, among: Among | None = None, *, axis: int = 0
) -> jax.Array:
    """Random draws for `size` rows, independent of how the batch is shared between devices.

    Args:
      draw: function of the number of rows, which are on `axis`.
      size: number of rows on this device.
      among: positions of the rows within the batch; None: they are the whole batch.
      axis: axis of the rows.
    """
    return draw(size) if among is None else jnp.take(draw(among.whole), among.places, axis=axis)


def gathered(tree: Tree, *, episodes: int = 1) -> Tree:
    """The rows of all devices that share this device's episodes, in the order of the batch.

    Args:
      tree: arrays `[own episodes · own n, …]`, as returned by `share`.
      episodes: number of episodes of the whole batch.

    Returns:
      arrays `[own episodes · n, …]`.
    """
    if _along(EXAMPLES) == 1:
        return tree
    of_device = own(episodes)

    def whole(rows: jax.Array) -> jax.Array:
        parts = jax.lax.all_gather(rows, EXAMPLES)
        parts = parts.reshape(len(parts), of_device, -1, *rows.shape[1:])
        return jnp.moveaxis(parts, 0, 1).reshape(-1, *rows.shape[1:])

    joined: Tree = jax.tree.map(whole, tree)
    return joined


def mean(tree: Tree) -> Tree:
    """Means over all devices of arrays of any shape."""
    if count() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    small: dict[jnp.dtype, list[int]] = {}
    for place, leaf in enumerate(leaves):
        if leaf.size <= _JOINED_UP_TO:
            small.setdefault(leaf.dtype, []).append(place)
    joined = [jnp.concatenate([leaves[place].reshape(-1) for place in places]) for places in small.values()]
    large = {place: leaf for place, leaf in enumerate(leaves) if leaf.size > _JOINED_UP_TO}
    joined, means = jax.lax.pmean((joined, large), AXES)
    for values, places in zip(joined, small.values(), strict=True):
        ends = list(itertools.accumulate(leaves[place].size for place in places))
        for place, part in zip(places, jnp.split(values, ends[:-1]), strict=True):
            means[place] = part.reshape(leaves[place].shape)
    averaged: Tree = jax.tree.unflatten(structure, [means[place] for place in range(len(leaves))])
    return averaged


def total(tree: Tree) -> Tree:
    """Sums over all devices of arrays of any shape."""
    summed: Tree = tree if count() == 1 else jax.lax.psum(tree, AXES)
    return summed


def of_first(tree: Tree) -> Tree:
    """The first device's arrays, on all devices; results of float arithmetic may differ between them."""
    if count() == 1:
        return tree

    def agreed_on(array: jax.Array) -> jax.Array:
        ours = jnp.where(number() == 0, array, jnp.zeros_like(array))
        summed: jax.Array = jax.lax.psum(ours.astype(jnp.promote_types(ours.dtype, jnp.int32)), AXES)
        return summed.astype(ours.dtype)

    agreed: Tree = jax.tree.map(agreed_on, tree)
    return agreed


def moments(average: jax.Array, variance: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance over whole episodes, from those of equal shares; any shape."""
    if _along(EXAMPLES) == 1:
        return average, variance
    # In one array: each collective costs its latency.
    both = jax.lax.all_gather(jnp.stack((average, variance)), EXAMPLES)
    averages, variances = both[:, 0], both[:, 1]
    middle = jnp.mean(averages, axis=0)
    return middle, jnp.mean(variances + jnp.square(averages - middle), axis=0)


def rows_of_divided(own: jax.Array, rows: jax.Array, *, episodes: int = 1) -> jax.Array:
    """This device's share of rows of data that are sharded over the devices.

    Args:
      own: as in `wherever_they_lie`.
      rows: int `[episodes · n]`, positions of the whole batch in all data.
      episodes: number of episodes of the batch.

    Returns:
      `[own episodes · own n, …]`.
    """
    return share(wherever_they_lie(own, rows), episodes=episodes)


def wherever_they_lie(own: jax.Array, rows: jax.Array) -> jax.Array:
    """Rows `[n, …]` of data that are sharded over the devices, the same on all.

    Args:
      own: `[size, …]`, this device's shard of the data: `size` rows from number · size.
      rows: int `[n]`, positions in all data.
    """
    places = rows - number() * len(own)
    here = (places >= 0) & (places < len(own))
    found = own[jnp.clip(places, 0, len(own) - 1)]
    found = jnp.where(here.reshape(-1, *(1,) * (own.ndim - 1)), found, jnp.zeros_like(found))
    # Each row comes from one device and from the others as zeros: a sum is a copy.
    summed: jax.Array = jax.lax.psum(found, AXES)
    return summed


def _along(axis: str) -> int:
    """Devices along an axis; 1 where nothing is divided over it."""
    try:
        return int(jax.lax.axis_size(axis))
    except NameError:
        return 1


def _place(axis: str) -> jax.Array:
    return jax.lax.axis_index(axis) if _along(axis) > 1 else jnp.int32(0)
