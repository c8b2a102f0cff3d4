"""The CPU's kernels against plain XLA."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.networks.kernels.convolution import (
    Padding,
    conv,
    conv3x3,
    overlapping_max_pool,
    patch_conv,
    pointwise_conv,
    wide_conv3x3,
    xla_conv3x3,
)
from fsljax.networks.kernels.depthwise import depthwise_conv

from .against_xla import COUNTS, FILTERS, assert_close, draw, value_and_gradients


def test_xla_conv3x3_is_the_sum_over_nine_shifts():
    images, kernel = draw(2, (5, 6), 3)
    padded = np.pad(np.asarray(images, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    weights = np.asarray(kernel, np.float64)
    expected = sum(padded[:, u : u + 5, v : v + 6] @ weights[u, v] for u in range(3) for v in range(3))
    assert_close(xla_conv3x3(images, kernel), expected)


@pytest.mark.parametrize("conv", [conv3x3, wide_conv3x3])
@pytest.mark.parametrize("count", COUNTS)
def test_conv3x3_and_both_its_gradients_are_those_of_xla(count: int, conv: Callable[..., jax.Array]):
    images, kernel = draw(count, (6, 7), 3)
    ours, theirs = (value_and_gradients(function, images, kernel) for function in (conv, xla_conv3x3))
    for value, expected in zip(ours, theirs, strict=True):
        assert_close(value, expected)


@pytest.mark.parametrize("count", [1, 3])
def test_conv3x3_of_many_channels_on_few_places_is_that_of_xla(count: int):
    generator = np.random.default_rng(0)
    images = generator.normal(size=(count, 4, 5, 256)).astype(np.float32)
    kernel = generator.normal(size=(3, 3, 256, 256)).astype(np.float32)
    ours, theirs = (value_and_gradients(function, images, kernel) for function in (conv3x3, xla_conv3x3))
    for value, expected in zip(ours, theirs, strict=True):
        assert_close(value, expected)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_convolution_of_pixels_in_chunks_is_that_of_xla(channels: int):
    images, _ = draw(5, (66, 60), channels)
    kernel = np.random.default_rng(1).normal(size=(7, 7, channels, FILTERS)).astype(np.float32)
    options = {"stride": 2, "padding": ((3, 3), (3, 3))}
    ours, theirs = (value_and_gradients(partial(f, **options), images, kernel) for f in (conv, xla_conv))
    for value, expected in zip(ours, theirs, strict=True):
        assert_close(value, expected)


def test_conv3x3_works_under_vmap():
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
    for function, kernel, groups in (
        (depthwise_conv, depthwise, 5),
        (patch_conv, dense, 1),
        (conv, dense, 1),
    ):
        ours = partial(function, stride=stride, padding=padding)
        theirs = partial(xla_conv, stride=stride, padding=padding, groups=groups)
        our_values, their_values = (value_and_gradients(f, images, kernel) for f in (ours, theirs))
        for value, expected in zip(our_values, their_values, strict=True):
            assert_close(value, expected)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(6, 6), (7, 5), (1, 1)])
def test_a_matrix_product_is_the_convolution_by_points(size: tuple[int, int], stride: int):
    images, _ = draw(4, size, 3)
    kernel = np.random.default_rng(1).normal(size=(1, 1, 3, FILTERS)).astype(np.float32)
    ours = partial(pointwise_conv, stride=stride)
    theirs = partial(xla_conv, stride=stride, padding=((0, 0), (0, 0)))
    for value, expected in zip(
        *(value_and_gradients(f, images, kernel) for f in (ours, theirs)), strict=True
    ):
        assert_close(value, expected)


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
    our_values, their_values = (value_and_gradients(f, images, nothing)[:2] for f in (ours, theirs))
    np.testing.assert_array_equal(our_values[0], their_values[0])
    assert_close(our_values[1], their_values[1])


def test_equal_maxima_of_overlapping_windows_share_the_gradient_that_flax_gives_to_one():
    blank = np.zeros((1, 3, 3, 1), np.float32)
    none = ((0, 0), (0, 0))
    shared = jax.grad(lambda x: jnp.sum(overlapping_max_pool(x, 3, 2, none)))(blank)
    assert np.sum(shared) == pytest.approx(1)
    assert np.count_nonzero(shared) == 9
    one = jax.grad(lambda x: jnp.sum(nn.max_pool(x, (3, 3), (2, 2))))(blank)
    assert np.count_nonzero(one) == 1
