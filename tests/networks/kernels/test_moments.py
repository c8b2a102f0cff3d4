"""Batch norm's variance where the mean is many standard deviations from 0."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.networks.kernels.moments import variance_about


def values(mean: float) -> jax.Array:
    """Two groups and three channels; the last channel's mean is 0."""
    drawn = np.random.default_rng(0).normal(size=(2, 5000, 3)) + np.array([mean, -mean, 0])
    return jnp.asarray(drawn, jnp.float32)


@pytest.mark.parametrize("mean", [0.0, 3.0, 10.0, 100.0, 1000.0, 10_000.0])
def test_the_variance_is_that_of_float64_however_far_the_mean(mean: float):
    given = values(mean)
    found = jax.jit(variance_about)(given, jnp.mean(given, axis=1))
    np.testing.assert_allclose(found, np.float64(given).var(axis=1), rtol=3e-5)


def test_near_0_it_is_the_mean_of_squares_to_the_bit():
    given = values(3.0)
    mean = jnp.mean(given, axis=1)
    quick = jax.jit(lambda v, m: jnp.maximum(jnp.mean(jnp.square(v), axis=1) - jnp.square(m), 0.0))
    np.testing.assert_array_equal(jax.jit(variance_about)(given, mean), quick(given, mean))


@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_its_gradient_is_twice_the_difference_from_the_mean(mean: float):
    given = values(mean)
    gradient = jax.grad(lambda v: jnp.sum(variance_about(v, jnp.mean(v, axis=1))))(given)
    wide = np.float64(given)
    expected = 2 * (wide - wide.mean(axis=1, keepdims=True)) / 5000
    np.testing.assert_allclose(gradient, expected, atol=1e-7)
