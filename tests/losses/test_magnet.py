"""The Magnet loss, against its equation in float64."""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from fsljax.losses import MagnetOutput, magnet_loss

M, D, DIM = 6, 4, 5
CLASSES = np.array([0, 1, 0, 2, 1, 3])


def batch(seed: int = 0, *, scale: float = 1.0, offset: float = 0.0, spread: float = 2.0, d: int = D):
    """Embeddings of a random batch: clusters of deviation `scale` about centres `spread` times that far."""
    normal = np.random.default_rng(seed).normal
    centres = spread * normal(size=(M, 1, DIM))
    return np.float32(scale * (offset + centres + normal(size=(M, d, DIM))))


def reference(embeddings: np.ndarray, classes: np.ndarray, alpha: float = 1.0) -> MagnetOutput:
    """Equation 5, one example at a time, in float64."""
    r = np.float64(embeddings)
    m, d, _ = r.shape
    means = np.array([sum(cluster) / d for cluster in r])
    variance = sum((x - means[i]) @ (x - means[i]) for i in range(m) for x in r[i]) / (m * d - 1)
    losses = np.zeros((m, d))
    for i, n in np.ndindex(m, d):
        exponents = [
            -((r[i, n] - means[j]) @ (r[i, n] - means[j])) / (2 * variance)
            for j in range(m)
            if classes[j] != classes[i]
        ]
        largest = max(exponents)
        denominator = largest + np.log(sum(np.exp(e - largest) for e in exponents))
        to_own_mean = (r[i, n] - means[i]) @ (r[i, n] - means[i]) / (2 * variance)
        losses[i, n] = max(0.0, to_own_mean + alpha + denominator)
    return MagnetOutput(losses.mean(), losses, variance)


class MagnetTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.product(scale=(1e-3, 1.0, 1e3), offset=(0.0, 100.0), alpha=(0.0, 1.0))
    def test_the_output_equals_the_equation(self, scale: float, offset: float, alpha: float):
        embeddings = batch(scale=scale, offset=offset)
        ours = self.variant(partial(magnet_loss, alpha=alpha))(embeddings, CLASSES)
        expected = jax.tree.map(np.float32, reference(embeddings, CLASSES, alpha))
        chex.assert_trees_all_close(ours, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(ours.variance, expected.variance, rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_under_vmap_it_equals_a_loop(self):
        batches = np.stack([batch(seed) for seed in range(3)])
        looped = jax.tree.map(lambda *parts: np.stack(parts), *(magnet_loss(b, CLASSES) for b in batches))
        ours = self.variant(jax.vmap(magnet_loss, in_axes=(0, None)))(batches, CLASSES)
        chex.assert_trees_all_close(ours, looped, rtol=1e-5, atol=1e-6)

    @chex.variants(with_jit=True, without_jit=True)
    def test_bfloat16_embeddings_are_compared_in_float32(self):
        embeddings = jnp.asarray(batch(offset=30.0), jnp.bfloat16)
        ours = self.variant(magnet_loss)(embeddings, CLASSES)
        assert {part.dtype for part in ours} == {jnp.dtype(jnp.float32)}
        expected = jax.tree.map(np.float32, reference(np.asarray(embeddings), CLASSES))
        chex.assert_trees_all_close(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("d", [2, 4])
def test_random_batches_of_all_scales_and_offsets(d: int):
    compiled = jax.jit(jax.value_and_grad(lambda e, c: magnet_loss(e, c).loss))
    generator = np.random.default_rng(d)
    for seed in range(500):
        scale, spread = 10 ** generator.uniform(-3, 3), 10 ** generator.uniform(-2, 1)
        embeddings = batch(seed, scale=scale, offset=generator.uniform(-100, 100), spread=spread, d=d)
        classes = generator.permutation(CLASSES)
        loss, gradient = compiled(embeddings, classes)
        np.testing.assert_allclose(loss, reference(embeddings, classes).loss, rtol=1e-5, atol=1e-6)
        assert np.isfinite(gradient).all()


def test_the_gradient_is_that_of_finite_differences_through_means_and_variance():
    embeddings = np.float64(batch())
    ours = jax.grad(lambda e: magnet_loss(e, CLASSES).loss)(np.float32(embeddings))
    expected = np.zeros(embeddings.shape)
    for index in np.ndindex(embeddings.shape):
        change = np.zeros(embeddings.shape)
        change[index] = 1e-6
        above, below = (reference(embeddings + sign * change, CLASSES).loss for sign in (1, -1))
        expected[index] = (above - below) / 2e-6
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-5)


@given(seed=st.integers(0, 1000), shift=st.floats(-1000, 1000), factor=st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_it_depends_neither_on_place_nor_on_scale(seed: int, shift: float, factor: float):
    embeddings = batch(seed)
    moved = np.float32(factor) * embeddings + np.float32(shift) * np.float32(factor)
    rounding = 1e-5 + 1e-6 * abs(shift)
    np.testing.assert_allclose(
        magnet_loss(moved, CLASSES).loss, magnet_loss(embeddings, CLASSES).loss, rtol=rounding, atol=rounding
    )


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_order_of_clusters_and_examples_does_not_matter(seed: int):
    order = np.random.default_rng(seed)
    embeddings = batch(seed)
    clusters, examples = order.permutation(M), order.permutation(D)
    shuffled = magnet_loss(embeddings[clusters][:, examples], CLASSES[clusters])
    expected = magnet_loss(embeddings, CLASSES).example_losses[clusters][:, examples]
    np.testing.assert_allclose(shuffled.example_losses, expected, rtol=1e-4, atol=1e-5)


def value_and_gradient(embeddings: np.ndarray, classes: np.ndarray = CLASSES):
    return jax.value_and_grad(lambda e: magnet_loss(e, classes).loss)(jnp.asarray(embeddings))


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4, 1e5 + 1 / 3])
def test_equal_embeddings_give_alpha_and_the_number_of_other_clusters(value: float):
    loss, gradient = value_and_gradient(np.full((M, D, DIM), value, np.float32))
    others = np.sum(CLASSES[:, None] != CLASSES[None, :], axis=1)
    np.testing.assert_allclose(loss, np.mean(1 + np.log(others)), rtol=1e-6)
    np.testing.assert_array_equal(gradient, 0)


def test_one_example_a_cluster_has_no_variance_and_finite_gradients():
    apart, gradient = value_and_gradient(batch(d=1))
    assert apart == 0
    assert np.isfinite(gradient).all()
    coinciding = np.zeros((2, 1, DIM), np.float32)
    loss, gradient = value_and_gradient(coinciding, np.array([0, 1]))
    assert loss == 1.0
    assert np.isfinite(gradient).all()


def test_a_far_example_has_a_large_finite_loss():
    embeddings = batch(spread=1e4)
    embeddings[0, 0] = embeddings[1, 0]
    output = magnet_loss(embeddings, CLASSES)
    np.testing.assert_allclose(
        output.example_losses, reference(embeddings, CLASSES).example_losses, rtol=1e-5
    )
    assert output.example_losses[0, 0] > 5
    assert np.isfinite(value_and_gradient(embeddings)[1]).all()


def test_clusters_of_one_class_have_nothing_to_be_kept_from():
    loss, gradient = value_and_gradient(batch(), np.zeros(M, int))
    assert loss == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(
    ("shape", "classes"),
    [((M, DIM), (M,)), ((M, D, DIM), (M + 1,)), ((M, D, DIM), (M, 1)), ((1, 1, DIM), (1,))],
)
def test_shapes_that_do_not_fit_are_refused(shape: tuple[int, ...], classes: tuple[int, ...]):
    with pytest.raises(AssertionError):
        magnet_loss(jnp.zeros(shape), jnp.zeros(classes, int))
