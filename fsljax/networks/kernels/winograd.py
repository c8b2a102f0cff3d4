"""3×3 convolution and 2×2 max pooling at once, by Winograd's minimal filtering, for the CPU backend.

Lavin and Gray (2016), https://arxiv.org/abs/1509.09308, F(2×2, 3×3): the responses of a 2×2 tile are linear
in 16 products instead of 36. A tile is a pooling window, so that the responses themselves are never stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def conv3x3_max_pool(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """3×3 convolution, padded with zeros to keep the size, then 2×2 max pooling; an odd last row is dropped.

    Equal to the convolution up to rounding, a few times its own.

    Args:
      images: `[n, height, width, channel]`.
      kernel: `[3, 3, channel, filters]`.

    Returns:
      `[n, height // 2, width // 2, filters]`.
    """
    count, height, width, channels = images.shape
    rows, columns = height // 2, width // 2
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # Pixel (u, v) of every tile's 4×4 neighbourhood.
    pixels = [[padded[:, u : u + 2 * rows : 2, v : v + 2 * columns : 2] for v in range(4)] for u in range(4)]
    by_row = [_transform_data(column) for column in zip(*pixels, strict=True)]
    data = [_transform_data([column[i] for column in by_row]) for i in range(4)]
    filters = _transform_filter(kernel)
    products = [[data[i][j].reshape(-1, channels) @ filters[i][j] for j in range(4)] for i in range(4)]
    summed = [_transform_products([products[i][j] for i in range(4)]) for j in range(4)]
    responses = [r for a in range(2) for r in _transform_products([part[a] for part in summed])]
    pooled = jnp.maximum(jnp.maximum(*responses[:2]), jnp.maximum(*responses[2:]))
    return pooled.reshape(count, rows, columns, kernel.shape[-1])


def _transform_data(d: Sequence[jax.Array]) -> list[jax.Array]:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _transform_filter(kernel: jax.Array) -> list[list[jax.Array]]:
    def along(g: Sequence[jax.Array]) -> list[jax.Array]:
        return [g[0], (g[0] + g[1] + g[2]) / 2, (g[0] - g[1] + g[2]) / 2, g[2]]

    by_row = [along([kernel[u, v] for u in range(3)]) for v in range(3)]
    return [along([column[i] for column in by_row]) for i in range(4)]


def _transform_products(m: Sequence[jax.Array]) -> list[jax.Array]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]
