"""Pooling, moments and normalisation of Conv-4's blocks against plain XLA."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.networks.kernels.moments import variance_about
from fsljax.networks.kernels.pooling import max_pool, max_pool_and_moments, normalised_relu

from .against_xla import FILTERS, assert_close


def plain_pool_and_moments(response: jax.Array, groups: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    values = response.reshape(groups, -1, response.shape[-1])
    mean = jnp.mean(values, axis=1)
    return max_pool(response), mean, variance_about(values, mean)


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("size", [(4, 6), (7, 7), (5, 4), (2, 3)])
def test_pooling_and_moments_and_their_gradients_are_those_of_xla(groups: int, size: tuple[int, int]):
    response = drawn(6, *size, FILTERS)
    ours, pullback = jax.vjp(lambda x: max_pool_and_moments(x, groups), response)
    plain, plain_pullback = jax.vjp(lambda x: plain_pool_and_moments(x, groups), response)
    jax.tree.map(assert_close, ours, plain)
    upstream = tuple(drawn(*part.shape, seed=seed) * 10 for seed, part in enumerate(plain, start=1))
    assert_close(pullback(upstream)[0], plain_pullback(upstream)[0])


def test_equal_maxima_share_the_gradient():
    response = np.zeros((1, 2, 2, 1), np.float32)
    response[0, 0] = 1
    upstream = (np.ones((1, 1, 1, 1), np.float32), *(np.zeros((1, 1), np.float32),) * 2)
    gradient = jax.vjp(lambda x: max_pool_and_moments(x, 1), response)[1](upstream)[0]
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[0.5, 0.5], [0, 0]])


def test_what_is_not_pooled_gets_the_moments_gradients_alone():
    response = drawn(2, 3, 3, 1)
    upstream = (np.ones((2, 1, 1, 1), np.float32), np.full((1, 1), 18, np.float32), np.zeros((1, 1)))
    gradient = jax.vjp(lambda x: max_pool_and_moments(x, 1), response)[1](upstream)[0]
    np.testing.assert_allclose(gradient[:, 2, :], 1, rtol=1e-6)
    np.testing.assert_allclose(gradient[:, :, 2], 1, rtol=1e-6)


@pytest.mark.parametrize("groups", [1, 2])
def test_normalisation_and_its_gradients_are_those_of_xla(groups: int):
    inputs = (drawn(groups, 50, FILTERS), drawn(groups, FILTERS), drawn(groups, FILTERS), drawn(FILTERS))

    def plain(values: jax.Array, mean: jax.Array, slope: jax.Array, shift: jax.Array) -> jax.Array:
        return jax.nn.relu((values - mean[:, None]) * slope[:, None] + shift)

    ours, pullback = jax.vjp(normalised_relu, *inputs)
    expected, plain_pullback = jax.vjp(plain, *inputs)
    np.testing.assert_array_equal(ours, expected)
    upstream = drawn(*expected.shape, seed=9)
    jax.tree.map(assert_close, pullback(upstream), plain_pullback(upstream))
