"""Winograd's convolution with pooling, against both done one after the other."""

from __future__ import annotations

import chex
import jax
import numpy as np
from absl.testing import parameterized

from fsljax.networks.kernels.winograd import conv3x3_max_pool


def reference(images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """In float64, a shift of the filter at a time."""
    _, height, width, _ = images.shape
    padded = np.pad(np.float64(images), ((0, 0), (1, 1), (1, 1), (0, 0)))
    response = sum(
        padded[:, u : u + height, v : v + width] @ np.float64(kernel[u, v])
        for u in range(3)
        for v in range(3)
    )
    rows, columns = height // 2, width // 2
    windows = response[:, : 2 * rows, : 2 * columns].reshape(len(images), rows, 2, columns, 2, -1)
    return windows.max(axis=(2, 4))


class WinogradTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters((2, 2), (3, 3), (7, 7), (14, 14), (6, 9))
    def test_it_is_the_convolution_and_the_maximum_of_its_windows(self, height: int, width: int):
        generator = np.random.default_rng(0)
        images = generator.normal(size=(3, height, width, 5)).astype(np.float32)
        kernel = generator.normal(size=(3, 3, 5, 4)).astype(np.float32)
        ours = self.variant(conv3x3_max_pool)(images, kernel)
        np.testing.assert_allclose(ours, reference(images, kernel), rtol=1e-4, atol=1e-4)

    def test_under_vmap_it_equals_a_loop(self):
        generator = np.random.default_rng(0)
        images = generator.normal(size=(2, 3, 6, 6, 5)).astype(np.float32)
        kernel = generator.normal(size=(3, 3, 5, 4)).astype(np.float32)
        ours = jax.vmap(conv3x3_max_pool, in_axes=(0, None))(images, kernel)
        np.testing.assert_allclose(ours, [conv3x3_max_pool(x, kernel) for x in images], rtol=1e-5, atol=1e-5)
