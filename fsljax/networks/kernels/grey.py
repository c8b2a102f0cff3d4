"""The first block of Conv-4 on one-channel images for the CPU backend: convolution, moments and pooling.

Equal to XLA's own up to rounding, and several times faster; `convolution` has the others.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

_IMAGES_A_CHUNK = 20


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
    pooled = jax.lax.map(lambda patches: _window_maximum(*_windows(patches, kernel)), _patch_chunks(images))
    count, height, width, _ = images.shape
    return pooled.reshape(-1, height // 2, width // 2, kernel.shape[-1])[:count]


def _patch_chunks(images: jax.Array) -> jax.Array:
    """Patches that pooled values see, `[chunks, patches of a chunk, 16]`; the last is filled with zeros."""
    count, height, width, _ = images.shape
    rows, columns = height // 2, width // 2
    chunks = -(-count // _IMAGES_A_CHUNK)
    chunk = -(-count // chunks)
    padded = jnp.pad(images[..., 0], ((0, chunks * chunk - count), (1, 1), (1, 1)))
    shifted = [padded[:, u : u + 2 * rows : 2, v : v + 2 * columns : 2] for u in range(4) for v in range(4)]
    return jnp.stack(shifted, axis=-1).reshape(chunks, chunk * rows * columns, 16)


def _placed(kernel: jax.Array) -> jax.Array:
    """The filter at the four places of a window, `[16, 4 · filters]`."""
    places = [jnp.pad(kernel[:, :, 0], ((u, 1 - u), (v, 1 - v), (0, 0))) for u in range(2) for v in range(2)]
    return jnp.stack(places, axis=2).reshape(16, -1)


def _windows(patches: jax.Array, kernel: jax.Array) -> list[jax.Array]:
    return jnp.split(patches @ _placed(kernel), 4, axis=1)


def _window_maximum(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> jax.Array:
    return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))


def _grey_forward(images: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return grey_conv3x3_max_pool(images, kernel), (images, kernel)


def _grey_backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    filters = kernel.shape[-1]
    chunks = _patch_chunks(images)
    rows = gradient.reshape(-1, filters)
    rows = jnp.pad(rows, ((0, chunks.shape[0] * chunks.shape[1] - len(rows)), (0, 0)))

    def add_chunk(total: jax.Array, chunk: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        patches, upstream = chunk
        a, b, c, d = _windows(patches, kernel)
        upper = jnp.maximum(a, b) >= jnp.maximum(c, d)
        winners = (upper & (a >= b), upper & (a < b), ~upper & (c >= d), ~upper & (c < d))
        by_place = jnp.concatenate([jnp.where(winner, upstream, 0) for winner in winners], axis=1)
        return total + patches.T @ by_place, None

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
    height, width = images.shape[1:3]
    padded = jnp.pad(images[..., 0], ((0, 0), (1, 1), (1, 1)))
    patches = jnp.stack(
        [padded[:, u : u + height, v : v + width] for u in range(3) for v in range(3)], axis=-1
    ).reshape(groups, -1, 9)
    mean_patch = jnp.mean(patches, axis=1, keepdims=True)
    centred = patches - mean_patch
    covariance = jnp.einsum("gni,gnj->gij", centred, centred) / patches.shape[1]
    columns = kernel.reshape(9, -1)
    mean = mean_patch[:, 0] @ columns
    variance = jnp.einsum("if,gij,jf->gf", columns, covariance, columns)
    return mean, jnp.maximum(variance, 0.0)
