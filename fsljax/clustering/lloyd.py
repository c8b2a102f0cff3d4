"""Seeding and iterations of k-means, in any `Space`."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fsljax.clustering.spaces import Space, Sweep


class LloydState(NamedTuple):
    """Where Lloyd's iterations stand, or ended.

    Attributes:
      centroids: in the space's own form.
      sweep: of those centroids.
      iterations: `[]`, how often the centroids moved.
    """

    centroids: jax.Array
    sweep: Sweep
    iterations: jax.Array


def seed(key: jax.Array, space: Space, k: int) -> jax.Array:
    """Indices `[k]` of points to begin at, by greedy k-means++.

    Each next seed is the best of 2 + ⌊log k⌋ candidates, drawn with probabilities proportional to the
    squared distance to the nearest seed so far (Arthur and Vassilvitskii, 2007, section 2 and "k-means++
    with several candidates"). Where every point is a seed already, points are taken again.

    Args:
      key: a JAX random key.
      space: the points.
      k: how many.
    """
    candidates = 2 + int(math.log(k))
    keys = jax.random.split(key, k)
    first = _draw(keys[0], space.weights, space.weights, 1)[0]
    chosen = jnp.full(k, first, jnp.int32)
    distances = space.distances_to(first[None])[0]

    def add(step: int, so_far: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        chosen, distances = so_far
        drawn = _draw(keys[step], distances, space.weights, candidates)
        reduced = jnp.minimum(distances, space.distances_to(drawn))
        best = jnp.argmin(jnp.sum(reduced, axis=1))
        return chosen.at[step].set(drawn[best]), reduced[best]

    if k == 1:
        return chosen
    seeds: jax.Array = jax.lax.fori_loop(1, k, add, (chosen, distances))[0]
    return seeds


def iterate(space: Space, first: Sweep, max_iterations: jax.Array, tolerance: jax.Array) -> LloydState:
    """Lloyd's iterations until the inertia falls by no more than `tolerance` of itself.

    With a tolerance of 0, until no point changes its cluster: rounding may hide that the inertia falls.

    Args:
      space: the points.
      first: the sweep of the centroids to begin with; they move once at least.
      max_iterations: int `[]`, at least 1.
      tolerance: `[]`.
    """

    def go_on(carry: tuple[LloydState, jax.Array]) -> jax.Array:
        state, unfinished = carry
        return (state.iterations < max_iterations) & unfinished

    def move(carry: tuple[LloydState, jax.Array]) -> tuple[LloydState, jax.Array]:
        state, _ = carry
        moved = _means(space, state)
        sweep = space.sweep(moved)
        before, now = jnp.sum(state.sweep.distances), jnp.sum(sweep.distances)
        falls = (before - now > tolerance * now) | ((tolerance == 0) & jnp.isfinite(now))
        changed = jnp.any(sweep.assignments != state.sweep.assignments)
        return LloydState(moved, sweep, state.iterations + 1), falls & changed

    start = LloydState(jnp.zeros_like(first.sums), first, jnp.int32(0))
    last, _ = jax.lax.while_loop(go_on, move, (start, jnp.asarray(True)))
    return last


def _means(space: Space, state: LloydState) -> jax.Array:
    """Means of the clusters; an empty one goes to the farthest point, the next empty one to the next."""
    sweep = state.sweep
    shape = (-1,) + (1,) * (sweep.sums.ndim - 1)
    means = sweep.sums / jnp.maximum(sweep.counts, 1).reshape(shape)
    empty = sweep.counts == 0

    def with_farthest() -> jax.Array:
        most = min(len(empty), len(sweep.distances))
        _, farthest = jax.lax.top_k(jnp.where(space.weights > 0, sweep.distances, -1), most)
        place = jnp.minimum(jnp.cumsum(empty) - 1, most - 1)
        return jnp.where(empty.reshape(shape), space.at(farthest[place]), means)

    moved: jax.Array = jax.lax.cond(jnp.any(empty), with_farthest, lambda: means)
    return moved


def _draw(key: jax.Array, shares: jax.Array, allowed: jax.Array, count: int) -> jax.Array:
    """Indices `[count]` drawn with probabilities proportional to `shares [n]`; all 0: any allowed one.

    The sums are those of blocks first, then of one block's members: exact enough for millions of points,
    and one pass over them.
    """
    shares = jnp.where(jnp.any(shares > 0), shares, allowed)
    side = max(1, math.isqrt(len(shares)))
    blocks = jnp.pad(shares, (0, -len(shares) % side)).reshape(-1, side)
    cumulated = jnp.cumsum(jnp.sum(blocks, axis=1))
    targets = jax.random.uniform(key, (count,), shares.dtype) * cumulated[-1]
    block = jnp.minimum(jnp.searchsorted(cumulated, targets, side="right"), len(blocks) - 1)
    rest = targets - jnp.where(block > 0, cumulated[block - 1], 0)
    within = jnp.cumsum(blocks[block], axis=1)
    place = jnp.sum(within <= rest[:, None], axis=1)
    # Rounding may carry the target past the block's last member with a share.
    last = side - 1 - jnp.argmax(blocks[block][:, ::-1] > 0, axis=1)
    return (block * side + jnp.minimum(place, last)).astype(jnp.int32)
