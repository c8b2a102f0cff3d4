"""The CPU's kernels against plain XLA."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.networks.backbones.conv4 import max_pool
from fsljax.networks.cpu_kernels import (
    Padding,
    conv3x3,
    depthwise_conv,
    grey_conv3x3_max_pool,
    grey_conv3x3_moments,
    overlapping_max_pool,
    patch_conv,
    pointwise_conv,
    xla_conv3x3,
)

# Below, at and above one chunk of images, and so many that chunks grow.
COUNTS = [1, 9, 10, 11, 500]
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


@jax.jit
def pooled_by_xla(images: jax.Array, kernel: jax.Array) -> jax.Array:
    return max_pool(xla_conv3x3(images, kernel))


def assert_close(ours: jax.Array | np.ndarray, wanted: jax.Array | np.ndarray) -> None:
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_xla_conv3x3_is_the_sum_over_nine_shifts():
    images, kernel = draw(2, (5, 6), 3)
    padded = np.pad(np.asarray(images, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    weights = np.asarray(kernel, np.float64)
    expected = sum(padded[:, u : u + 5, v : v + 6] @ weights[u, v] for u in range(3) for v in range(3))
    assert_close(xla_conv3x3(images, kernel), expected)


@pytest.mark.parametrize("count", COUNTS)
def test_conv3x3_and_both_its_gradients_are_those_of_xla(count: int):
    images, kernel = draw(count, (6, 7), 3)
    ours, theirs = (value_and_gradients(function, images, kernel) for function in (conv3x3, xla_conv3x3))
    for value, wanted in zip(ours, theirs, strict=True):
        assert_close(value, wanted)


@pytest.mark.parametrize(("count", "size"), [*((n, (6, 6)) for n in COUNTS), (20, (7, 8)), (21, (9, 5))])
def test_grey_convolution_and_pooling_and_its_gradient_are_those_of_xla(count: int, size: tuple[int, int]):
    images, kernel = draw(count, size, 1)
    value, image_gradient, kernel_gradient = value_and_gradients(grey_conv3x3_max_pool, images, kernel)
    wanted, _, wanted_gradient = value_and_gradients(pooled_by_xla, images, kernel)
    assert_close(value, wanted)
    assert_close(kernel_gradient, wanted_gradient)
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


def test_kernels_work_under_vmap():
    images, kernel = draw(6, (6, 6), 1)
    by_two = images.reshape(3, 2, 6, 6, 1)
    pooled = jax.vmap(grey_conv3x3_max_pool, (0, None))(by_two, kernel)
    assert_close(pooled.reshape(6, 3, 3, FILTERS), pooled_by_xla(images, kernel))
    colours, kernel = draw(6, (6, 6), 3)
    convolved = jax.vmap(conv3x3, (0, None))(colours.reshape(3, 2, 6, 6, 3), kernel)
    assert_close(convolved.reshape(6, 6, 6, FILTERS), xla_conv3x3(colours, kernel))


def xla_conv(
    images: jax.Array, kernel: jax.Array, stride: int, padding: Padding, groups: int = 1
) -> jax.Array:
    return jax.lax.conv_general_dilated(
        images, kernel, (stride, stride), padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
    )  # fmt: skip


WINDOWS = [  # rows, columns, stride, padding
    (3, 3, 1, ((1, 1), (1, 1))),
    (3, 3, 2, ((1, 1), (1, 1))),
    (3, 3, 2, ((0, 1), (0, 1))),
    (3, 3, 2, ((0, 0), (0, 0))),
    (1, 7, 1, ((0, 0), (3, 3))),
    (5, 5, 2, ((2, 2), (1, 2))),
]


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (5, 5)])
@pytest.mark.parametrize(("rows", "columns", "stride", "padding"), WINDOWS)
def test_convolutions_by_shifts_and_patches_and_their_gradients_are_those_of_xla(
    rows: int, columns: int, stride: int, padding: Padding, size: tuple[int, int]
):
    generator = np.random.default_rng(0)
    images = generator.normal(size=(3, *size, 5)).astype(np.float32)
    depthwise = generator.normal(size=(rows, columns, 1, 5)).astype(np.float32)
    dense = generator.normal(size=(rows, columns, 5, FILTERS)).astype(np.float32)
    for function, kernel, groups in ((depthwise_conv, depthwise, 5), (patch_conv, dense, 1)):
        ours = partial(function, stride=stride, padding=padding)
        theirs = partial(xla_conv, stride=stride, padding=padding, groups=groups)
        found, wanted = (value_and_gradients(f, images, kernel) for f in (ours, theirs))
        for value, expected in zip(found, wanted, strict=True):
            assert_close(value, expected)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(6, 6), (7, 5), (1, 1)])
def test_a_matrix_product_is_the_convolution_by_points(size: tuple[int, int], stride: int):
    images, _ = draw(4, size, 3)
    kernel = np.random.default_rng(1).normal(size=(1, 1, 3, FILTERS)).astype(np.float32)
    ours = partial(pointwise_conv, stride=stride)
    theirs = partial(xla_conv, stride=stride, padding=((0, 0), (0, 0)))
    for value, wanted in zip(*(value_and_gradients(f, images, kernel) for f in (ours, theirs)), strict=True):
        assert_close(value, wanted)


@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
@pytest.mark.parametrize(
    ("window", "stride", "padding"),
    [(3, 2, ((1, 1), (1, 1))), (3, 2, ((0, 1), (1, 1))), (3, 2, ((0, 0), (0, 0))), (2, 2, ((0, 0), (0, 0)))],
)
def test_overlapping_pooling_and_its_gradient_are_those_of_flax_where_no_two_are_equal(
    window: int, stride: int, padding: Padding, size: tuple[int, int]
):
    images = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)

    def ours(images: jax.Array, _: jax.Array) -> jax.Array:
        return overlapping_max_pool(images, window, stride, padding)

    def theirs(images: jax.Array, _: jax.Array) -> jax.Array:
        return nn.max_pool(images, (window, window), (stride, stride), padding)

    nothing = np.zeros(1, np.float32)
    found, wanted = (value_and_gradients(f, images, nothing)[:2] for f in (ours, theirs))
    np.testing.assert_array_equal(found[0], wanted[0])
    assert_close(found[1], wanted[1])


def test_equal_maxima_of_overlapping_windows_share_the_gradient_that_flax_gives_to_one():
    blank = np.zeros((1, 3, 3, 1), np.float32)
    none = ((0, 0), (0, 0))
    shared = jax.grad(lambda x: jnp.sum(overlapping_max_pool(x, 3, 2, none)))(blank)
    assert np.sum(shared) == pytest.approx(1)
    assert np.count_nonzero(shared) == 9
    one = jax.grad(lambda x: jnp.sum(nn.max_pool(x, (3, 3), (2, 2))))(blank)
    assert np.count_nonzero(one) == 1
