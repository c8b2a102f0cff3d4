"""What tests of the CPU's kernels compare with plain XLA: values and gradients of random images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import numpy as np

# Below, at and above one chunk of images, and so many that chunks grow.
COUNTS = [1, 40, 41, 97, 500]
FILTERS = 4


def draw(count: int, size: tuple[int, int], channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and a filter."""
    generator = np.random.default_rng(count)
    images = generator.uniform(size=(count, *size, channels))
    kernel = generator.normal(size=(3, 3, channels, FILTERS))
    return images.astype(np.float32), kernel.astype(np.float32)


@partial(jax.jit, static_argnums=0)
def pull_back(function: Callable[..., jax.Array], images: jax.Array, kernel: jax.Array, upstream: jax.Array):
    """The value, and the gradients of images and kernel."""
    value, pullback = jax.vjp(function, images, kernel)
    return value, *pullback(upstream)


def value_and_gradients(function: Callable[..., jax.Array], images: np.ndarray, kernel: np.ndarray):
    """The value, and gradients of images and kernel for one fixed upstream gradient."""
    shape = jax.eval_shape(function, images, kernel).shape
    upstream = np.random.default_rng(7).normal(size=shape).astype(np.float32)
    return pull_back(function, images, kernel, upstream)


def assert_close(ours: jax.Array | np.ndarray, expected: jax.Array | np.ndarray) -> None:
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
