"""The CPU's kernels of one-channel images against plain XLA."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.networks.kernels.convolution import xla_conv3x3
from fsljax.networks.kernels.grey import grey_conv3x3_max_pool, grey_conv3x3_moments
from fsljax.networks.kernels.pooling import max_pool

from .against_xla import COUNTS, FILTERS, assert_close, draw, pull_back, value_and_gradients


@jax.jit
def pooled_by_xla(images: jax.Array, kernel: jax.Array) -> jax.Array:
    return max_pool(xla_conv3x3(images, kernel))


@pytest.mark.parametrize(("count", "size"), [*((n, (6, 6)) for n in COUNTS), (20, (7, 8)), (21, (9, 5))])
def test_grey_convolution_and_pooling_and_its_gradient_are_those_of_xla(count: int, size: tuple[int, int]):
    images, kernel = draw(count, size, 1)
    value, image_gradient, kernel_gradient = value_and_gradients(grey_conv3x3_max_pool, images, kernel)
    expected, _, expected_gradient = value_and_gradients(pooled_by_xla, images, kernel)
    assert_close(value, expected)
    assert_close(kernel_gradient, expected_gradient)
    assert not np.any(image_gradient)  # images are inputs


def test_the_gradient_of_equal_maxima_of_a_grey_window_goes_to_the_first():
    images = np.zeros((1, 2, 2, 1), np.float32)
    images[0, 0, 0] = 1
    # The centre and its left neighbour: the first two places of the window respond with 1.
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[1, :2] = 1
    np.testing.assert_array_equal(xla_conv3x3(images, kernel)[0, :, :, 0], [[1, 1], [0, 0]])
    first = pull_back(grey_conv3x3_max_pool, images, kernel, np.ones((1, 1, 1, 1), np.float32))[2]
    np.testing.assert_allclose(first[..., 0, 0], [[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    shared = pull_back(pooled_by_xla, images, kernel, np.ones((1, 1, 1, 1), np.float32))[2]
    np.testing.assert_allclose(shared[..., 0, 0], [[0, 0, 0], [0.5, 0.5, 0], [0, 0, 0]])


@pytest.mark.parametrize(("groups", "size"), [(1, (8, 8)), (4, (7, 9))])
def test_grey_moments_are_those_of_the_response(groups: int, size: tuple[int, int]):
    images, kernel = draw(12, size, 1)
    response = np.asarray(xla_conv3x3(images, kernel), np.float64).reshape(groups, -1, FILTERS)
    mean, variance = jax.jit(grey_conv3x3_moments, static_argnums=2)(images, kernel, groups)
    np.testing.assert_allclose(mean, response.mean(axis=1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, response.var(axis=1), rtol=1e-4)


def test_gradients_of_grey_moments_are_those_of_the_response():
    images, kernel = draw(6, (8, 7), 1)

    def of_response(kernel: jax.Array) -> jax.Array:
        response = xla_conv3x3(images, kernel).reshape(2, -1, FILTERS)
        return jnp.sum(jnp.sin(response.mean(axis=1)) + jnp.cos(response.var(axis=1)))

    def without_it(kernel: jax.Array) -> jax.Array:
        mean, variance = grey_conv3x3_moments(images, kernel, 2)
        return jnp.sum(jnp.sin(mean) + jnp.cos(variance))

    assert_close(jax.jit(jax.grad(without_it))(kernel), jax.jit(jax.grad(of_response))(kernel))


def test_variance_of_blank_images_is_not_negative():
    _, kernel = draw(4, (8, 8), 1)
    for grey in (0.0, 1.0):
        _, variance = grey_conv3x3_moments(jnp.full((4, 8, 8, 1), grey), 100 * kernel, 2)
        assert np.min(variance) >= 0


def test_grey_convolution_works_under_vmap():
    images, kernel = draw(6, (6, 6), 1)
    by_two = images.reshape(3, 2, 6, 6, 1)
    pooled = jax.vmap(grey_conv3x3_max_pool, (0, None))(by_two, kernel)
    assert_close(pooled.reshape(6, 3, 3, FILTERS), pooled_by_xla(images, kernel))


def test_grey_moments_keep_their_digits_on_bright_paper():
    images, kernel = draw(6, (8, 8), 1)
    images = 1 - images / 100
    response = np.asarray(xla_conv3x3(images.astype(np.float64), kernel.astype(np.float64)), np.float64)
    mean, variance = grey_conv3x3_moments(images, kernel, 1)
    np.testing.assert_allclose(mean[0], response.mean(axis=(0, 1, 2)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(variance[0], response.var(axis=(0, 1, 2)), rtol=1e-5)
