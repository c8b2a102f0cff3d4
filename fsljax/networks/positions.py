"""Position embeddings of the patches of images, resized to images of another size."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np


def resized_positions(positions: jax.Array, before: int, grid: tuple[int, ...]) -> jax.Array:
    """Position embeddings of another grid, by cubics (Keys', wider where the grid shrinks), as timm has it.

    Args:
      positions: `[1, before + places, width]`, of a square grid where that is of another size.
      before: how many tokens stand before the grid's.
      grid: `(rows, columns)` that are wanted.

    Returns:
      `[1, before + rows · columns, width]`; the same array where that is its shape.
    """
    places, width = positions.shape[1] - before, positions.shape[2]
    if places == math.prod(grid):
        return positions
    side = math.isqrt(places)
    square = positions[:, before:].reshape(side, side, width).astype(jnp.float32)
    resized = jax.image.resize(square, (*grid, width), "cubic", antialias=True, precision="highest")
    resized = resized.reshape(1, -1, width).astype(positions.dtype)
    return jnp.concatenate([positions[:, :before], resized], axis=1)


def fitted_positions(published: np.ndarray, shape: tuple[int, ...], tokens: int) -> np.ndarray:
    """Published position embeddings for a network of another image size.

    Args:
      published: `[1, before + places, width]`, of a square grid; before: `tokens`, or 0 if these have none.
      shape: `[1, before + other places, width]`, as the network has it, of a square grid.
      tokens: class and register tokens of the network.

    Returns:
      of that shape; or what was given, where it is of another kind of network.
    """
    if published.ndim == 3 and (published.shape[0], published.shape[2]) == (shape[0], shape[2]):
        for before in (tokens, 0):
            here, there = (
                math.isqrt(max(shape[1] - before, 0)),
                math.isqrt(max(published.shape[1] - before, 0)),
            )
            if here and there and (here**2, there**2) == (shape[1] - before, published.shape[1] - before):
                return np.asarray(resized_positions(jnp.asarray(published), before, (here, here)))
    return published
