"""The first block of Conv-4 on one-channel images for the CPU backend: convolution, moments and pooling.

Equal to XLA's own up to rounding, and several times faster; `convolution` has the others.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

_IMAGES_A_CHUNK = 20
_IMAGES_A_CHUNK_OF_GRADIENT = 40


@jax.custom_vjp
def grey_conv3x3_max_pool(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """3×3 convolution of one-channel images, then 2×2 max pooling, as matrix products.

    Every pooled value sees a 4×4 patch: a matrix `[16, 4 · filters]` holds the filter at the four
    places of the window, and the maximum is taken over the four. A few images at a time, so that what is
    pooled away never leaves the processor's cache. The gradient of equal maxima goes to the first of
    them; images get no gradient (they are inputs, never parameters).

    Args:
      images: `[n, height, width, 1]`.
      kernel: `[3, 3, 1, filters]`.

    Returns:
      `[n, height // 2, width // 2, filters]`.
    """
    chunks = _patch_chunks(images, _IMAGES_A_CHUNK)
    pooled = jax.lax.map(lambda patches: _window_maximum(*_windows(patches, kernel)), chunks)
    count, height, width, _ = images.shape
    return pooled.reshape(-1, height // 2, width // 2, kernel.shape[-1])[:count]


def _patch_chunks(images: jax.Array, most: int) -> jax.Array:
    """Patches that pooled values see, `[chunks, patches of a chunk, 16]`; the last is filled with zeros.

    Args:
      images: `[n, height, width, 1]`.
      most: images in a chunk.
    """
    count, height, width, _ = images.shape
    rows, columns = height // 2, width // 2
    chunks = -(-count // most)
    chunk = -(-count // chunks)
    padded = jnp.pad(images[..., 0], ((0, chunks * chunk - count), (1, 1), (1, 1)))
    padded = padded[:, : 2 * rows + 2, : 2 * columns + 2]
    return _tiles(padded, 2, 2).reshape(chunks, chunk * rows * columns, 16)


def _placed(kernel: jax.Array) -> jax.Array:
    """The filter at the four places of a window, `[16, 4 · filters]`."""
    places = [jnp.pad(kernel[:, :, 0], ((u, 1 - u), (v, 1 - v), (0, 0))) for u in range(2) for v in range(2)]
    return jnp.stack(places, axis=2).reshape(16, -1)


def _windows(patches: jax.Array, kernel: jax.Array) -> list[jax.Array]:
    return jnp.split(patches @ _placed(kernel), 4, axis=1)


def _window_maximum(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> jax.Array:
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def _winners(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> jax.Array:
    """Which of four is the largest, int8; of equal ones the first."""
    upper, lower = jnp.where(a >= b, 0, 1), jnp.where(c >= d, 2, 3)
    winners = jnp.where(jnp.maximum(a, b) >= jnp.maximum(c, d), upper, lower).astype(jnp.int8)
    # Not fused with what uses it, which would compare again for each place.
    return jax.lax.optimization_barrier(winners)


def _grey_forward(images: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return grey_conv3x3_max_pool(images, kernel), (images, kernel)


def _grey_backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    filters = kernel.shape[-1]
    chunks = _patch_chunks(images, _IMAGES_A_CHUNK_OF_GRADIENT)
    rows = gradient.reshape(-1, filters)
    rows = jnp.pad(rows, ((0, chunks.shape[0] * chunks.shape[1] - len(rows)), (0, 0)))
    places = jnp.split(_placed(kernel), 4, axis=1)

    def add_chunk(total: jax.Array, chunk: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        patches, upstream = chunk
        # One product for each place, with what it won: all in one would be written out first.
        winners = _winners(*(patches @ place for place in places))
        of_places = [patches.T @ jnp.where(winners == place, upstream, 0) for place in range(4)]
        return total + jnp.concatenate(of_places, axis=1), None

    zeros = jnp.zeros((16, 4 * filters), gradient.dtype)
    total, _ = jax.lax.scan(add_chunk, zeros, (chunks, rows.reshape(len(chunks), -1, filters)))
    _, pullback = jax.vjp(_placed, kernel)
    return jnp.zeros_like(images), pullback(total)[0]


grey_conv3x3_max_pool.defvjp(_grey_forward, _grey_backward)


def grey_conv3x3_moments(images: jax.Array, kernel: jax.Array, groups: int) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of `xla_conv3x3(images, kernel)` of one-channel images, without computing it.

    A filter's response is linear in the 3×3 patch: its mean is the filter applied to the mean patch, its
    variance the filter's quadratic form in the patches' covariance.

    Args:
      images: `[groups · n, height, width, 1]`.
      kernel: `[3, 3, 1, filters]`.
      groups: how many equal parts of the batch get moments of their own.

    Returns:
      mean and variance, `[groups, filters]` each.
    """
    down, across = (1 if side % 2 else 2 for side in images.shape[1:3])
    # Of 4×4 patches that see 2×2 responses a quarter is enough.
    pixels = images.reshape(groups, -1, *images.shape[1:3])
    average = jnp.mean(pixels, axis=(1, 2, 3))
    # About the average, so that the variance is no small difference of large numbers.
    centred = jnp.pad(pixels, ((0, 0), (0, 0), (1, 1), (1, 1))) - average[:, None, None, None]
    patches = jax.vmap(lambda part: _tiles(part, down, across))(centred)
    seen = jnp.mean(patches, axis=1)
    products = jnp.einsum("gni,gnj->gij", patches, patches) / patches.shape[1]
    places = np.arange((down + 2) * (across + 2)).reshape(down + 2, across + 2)
    parts = [places[u : u + 3, v : v + 3].reshape(9) for u in range(down) for v in range(across)]
    mean_patch = jnp.mean(jnp.stack([seen[:, part] for part in parts]), axis=0)
    products = jnp.mean(jnp.stack([products[:, part[:, None], part] for part in parts]), axis=0)
    covariance = products - mean_patch[:, :, None] * mean_patch[:, None]
    columns = kernel.reshape(9, -1)
    mean = (mean_patch + average[:, None]) @ columns
    variance = jnp.einsum("if,gij,jf->gf", columns, covariance, columns)
    return mean, jnp.maximum(variance, 0.0)


def _tiles(padded: jax.Array, down: int, across: int) -> jax.Array:
    """What `down` × `across` responses see together, `[patches, (down + 2) · (across + 2)]`.

    Args:
      padded: `[n, height + 2, width + 2]`.
      down, across: divisors of the height and the width.
    """
    height, width = padded.shape[1] - 2, padded.shape[2] - 2
    shifted = [
        padded[:, u : u + height : down, v : v + width : across]
        for u in range(down + 2)
        for v in range(across + 2)
    ]
    return jnp.stack(shifted, axis=-1).reshape(-1, len(shifted))
