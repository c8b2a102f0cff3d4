"""Distances, against their formulas in float64."""

from __future__ import annotations

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from fsljax.distances import cosine_distance, normalize, squared_euclidean

DISTANCES = (squared_euclidean, cosine_distance)
NAMED = {distance.__name__: distance for distance in DISTANCES}
few_examples = settings(max_examples=20, deadline=None)


def rows(count: int, dim: int = 5, *, seed: int = 0, scale: float = 1.0, offset: float = 0.0) -> np.ndarray:
    return (offset + scale * np.random.default_rng(seed).normal(size=(count, dim))).astype(np.float32)


def reference(distance: Callable, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """One pair at a time, in float64."""

    def of_pair(a: np.ndarray, b: np.ndarray) -> float:
        if distance is squared_euclidean:
            return np.sum((a - b) ** 2)
        return 1 - a @ b / np.sqrt((a @ a) * (b @ b))

    return np.array([[of_pair(a, b) for b in np.float64(y)] for a in np.float64(x)])


class DistancesTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.product(name=tuple(NAMED), scale=(1e-4, 1.0, 1e4))
    def test_equal_the_formula(self, name: str, scale: float):
        distance = NAMED[name]
        x, y = rows(7, scale=scale), rows(4, seed=1, scale=scale)
        expected = reference(distance, x, y)
        ours = self.variant(distance)(x, y)
        chex.assert_shape(ours, (7, 4))
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6 * (distance is cosine_distance))

    @chex.variants(with_jit=True, without_jit=True)
    def test_normalize_gives_the_direction_at_length_1(self):
        x = rows(12).reshape(3, 4, 5)
        expected = x / np.linalg.norm(np.float64(x), axis=-1, keepdims=True)
        np.testing.assert_allclose(self.variant(normalize)(x), expected, rtol=1e-6)

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(*NAMED)
    def test_under_vmap_equal_a_loop(self, name: str):
        distance = NAMED[name]
        x, y = rows(12).reshape(3, 4, 5), rows(6, seed=1).reshape(3, 2, 5)
        looped = np.stack([distance(a, b) for a, b in zip(x, y, strict=True)])
        np.testing.assert_allclose(self.variant(jax.vmap(distance))(x, y), looped, rtol=1e-5, atol=1e-6)

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(*NAMED)
    def test_bfloat16_is_computed_in_float32(self, name: str):
        distance = NAMED[name]
        x, y = jnp.asarray(rows(7), jnp.bfloat16), jnp.asarray(rows(4, seed=1), jnp.bfloat16)
        ours = self.variant(distance)(x, y)
        assert ours.dtype == jnp.float32
        expected = reference(distance, np.asarray(x), np.asarray(y))
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradients_are_those_of_finite_differences(distance: Callable):
    x, y = rows(3), rows(4, seed=1)
    check_grads(distance, (x, y), order=1, atol=0.01, rtol=0.01, eps=1e-2)


def test_the_gradient_of_normalize_is_that_of_finite_differences():
    check_grads(normalize, (rows(4),), order=1, atol=0.01, rtol=0.01, eps=1e-2)


@pytest.mark.parametrize("offset", [30.0, 1e4])
def test_no_squared_distance_goes_negative_or_loses_its_digits_far_from_the_origin(offset: float):
    """‖x‖² + ‖y‖² − 2x·y does both in float32."""
    x = rows(20, 64, offset=offset)
    near = x + np.float32(0.01)
    expanded = np.sum(x**2, -1)[:, None] + np.sum(near**2, -1) - 2 * x @ near.T
    ours, expected = squared_euclidean(x, near), reference(squared_euclidean, x, near)
    assert np.min(ours) >= 0
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    assert not np.allclose(expanded, expected, rtol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 30.0, 1e4])
def test_coinciding_rows_are_at_0_exactly(offset: float):
    x = rows(20, 64, offset=offset)
    np.testing.assert_array_equal(np.diagonal(squared_euclidean(x, x)), 0)


def test_the_gradient_where_rows_coincide_is_0_and_not_nan():
    x = rows(6)
    gradients = jax.grad(lambda a, b: jnp.trace(squared_euclidean(a, b)), argnums=(0, 1))(x, x)
    chex.assert_trees_all_equal(gradients, (np.zeros_like(x), np.zeros_like(x)))
    for gradient in jax.grad(lambda a, b: jnp.sum(cosine_distance(a, b)), argnums=(0, 1))(x, x):
        assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("scale", [1e-18, 1e4, 1e18])
def test_very_long_and_very_short_rows_keep_distances_and_gradients_finite(distance: Callable, scale: float):
    x, y = rows(6, scale=scale), rows(4, seed=1, scale=scale)
    value, gradients = jax.value_and_grad(lambda a, b: jnp.mean(distance(a, b)), argnums=(0, 1))(x, y)
    chex.assert_tree_all_finite((value, gradients))


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e4, 1e30])
def test_the_cosine_distance_does_not_depend_on_length(scale: float):
    x, y = rows(6), rows(4, seed=1)
    lengthened = cosine_distance(np.float32(scale) * x, y)
    np.testing.assert_allclose(lengthened, cosine_distance(x, y), atol=1e-6)


def test_a_row_of_zeros_is_at_cosine_distance_1_of_every_row_with_finite_gradients():
    x, y = np.zeros((1, 5), np.float32), np.concatenate([rows(3), np.zeros((1, 5), np.float32)])
    np.testing.assert_array_equal(cosine_distance(x, y), np.ones((1, 4)))
    np.testing.assert_array_equal(normalize(x), x)
    chex.assert_tree_all_finite(jax.grad(lambda a: jnp.sum(cosine_distance(a, y)))(x))


def test_the_cosine_distance_stays_from_0_to_2():
    x = rows(200, 64)
    distances = np.asarray(cosine_distance(x, np.concatenate([3 * x, -x])))
    assert distances.min() >= 0
    assert distances.max() <= 2
    np.testing.assert_allclose(np.diagonal(distances), 0, atol=1e-6)
    np.testing.assert_allclose(np.diagonal(distances[:, 200:]), 2, atol=1e-6)


def test_the_product_of_the_cosine_distance_is_not_left_to_the_low_precision_of_accelerators():
    lowered = jax.jit(cosine_distance).lower(rows(3), rows(4)).as_text()
    assert "precision = [HIGHEST, HIGHEST]" in lowered


@pytest.mark.parametrize("distance", DISTANCES)
@few_examples
@given(seed=st.integers(0, 2**31))
def test_permuted_rows_give_permuted_distances(distance: Callable, seed: int):
    x, y = rows(6, seed=seed), rows(4, seed=seed + 1)
    generator = np.random.default_rng(seed)
    of_x, of_y = generator.permutation(6), generator.permutation(4)
    permuted = distance(x[of_x], y[of_y])
    np.testing.assert_allclose(permuted, distance(x, y)[of_x][:, of_y], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(distance(y, x), distance(x, y).T, rtol=1e-6, atol=1e-6)


@few_examples
@given(seed=st.integers(0, 2**31), offset=st.floats(-1e4, 1e4, width=32))
def test_moving_every_row_leaves_squared_distances_as_they_are(seed: int, offset: float):
    # Whole numbers are moved without rounding.
    x, y = np.round(rows(6, seed=seed, scale=50)), np.round(rows(4, seed=seed + 1, scale=50))
    moved = squared_euclidean(x + np.round(offset), y + np.round(offset))
    np.testing.assert_array_equal(moved, squared_euclidean(x, y))


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ((5,), (4, 5), "rank"),
        ((2, 3, 5), (4, 5), "rank"),
        ((3, 5), (4, 6), "suffix"),
        ((3, 1), (4, 6), "suffix"),
    ],
)
def test_other_shapes_are_refused_when_called_and_when_traced(distance: Callable, x, y, message: str):
    for call in (distance, jax.jit(distance)):
        with pytest.raises(AssertionError, match=message):
            call(np.zeros(x), np.zeros(y))
