"""The triplet loss, against its definitions in float64."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from fsljax.losses import triplet_loss
from fsljax.losses.triplet import MINING

LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 3])


def batch(seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return np.float32(scale * np.random.default_rng(seed).normal(size=(len(LABELS), 5)))


def reference(x: np.ndarray, labels: np.ndarray, margin: float, mining: str) -> tuple[float, float]:
    """One triplet at a time, in float64: the loss, and the share of triplets above 0."""
    x = np.float64(x)
    distances = ((x[:, None] - x[None]) ** 2).sum(-1)
    losses = []
    for a in range(len(x)):
        positives = [p for p in range(len(x)) if labels[p] == labels[a] and p != a]
        negatives = distances[a, labels != labels[a]]
        if mining == "hard" and positives and len(negatives):
            losses.append(max(distances[a, positives]) - min(negatives) + margin)
        for p in positives if mining != "hard" and len(negatives) else ():
            if mining == "all":
                losses += [distances[a, p] - n + margin for n in negatives]
            else:
                farther = negatives[negatives > distances[a, p]]
                chosen = min(farther) if len(farther) else max(negatives)
                losses.append(distances[a, p] - chosen + margin)
    above = [loss for loss in losses if loss > 0]
    counted = len(above) if mining == "all" else len(losses)
    return sum(above) / max(counted, 1), len(above) / max(len(losses), 1)


class TripletTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.product(mining=MINING, scale=(0.1, 1.0, 1e3), seed=(0, 1))
    def test_the_output_equals_the_definition(self, mining: str, scale: float, seed: int):
        def loss(embeddings, labels):
            return triplet_loss(embeddings, labels, margin=0.5, mining=mining)

        ours = self.variant(loss)(batch(seed, scale), LABELS)
        np.testing.assert_allclose(ours, reference(batch(seed, scale), LABELS, 0.5, mining), rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_under_vmap_it_equals_a_loop(self):
        batches = np.stack([batch(seed) for seed in range(3)])
        looped = jax.tree.map(lambda *parts: np.stack(parts), *(triplet_loss(b, LABELS) for b in batches))
        ours = self.variant(jax.vmap(triplet_loss, in_axes=(0, None)))(batches, LABELS)
        chex.assert_trees_all_close(ours, looped, rtol=1e-5)


@pytest.mark.parametrize("mining", MINING)
@pytest.mark.parametrize("labels", [LABELS, np.zeros(8, int), np.arange(8)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_loss_and_gradient_are_finite_where_there_is_no_triplet_or_all_points_are_one(
    mining: str, labels: np.ndarray, scale: float
):
    loss, gradient = jax.value_and_grad(lambda e: triplet_loss(e, labels, mining=mining).loss)(
        batch(scale=scale)
    )
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    if len(set(labels)) in (1, 8):
        assert loss == 0


@pytest.mark.parametrize("mining", MINING)
def test_the_gradient_is_that_of_finite_differences(mining: str):
    embeddings = np.float64(batch())
    ours = jax.grad(lambda e: triplet_loss(e, LABELS, margin=0.5, mining=mining).loss)(np.float32(embeddings))
    expected = np.zeros(embeddings.shape)
    for index in np.ndindex(embeddings.shape):
        change = np.zeros(embeddings.shape)
        change[index] = 1e-6
        above, below = (reference(embeddings + sign * change, LABELS, 0.5, mining)[0] for sign in (1, -1))
        expected[index] = (above - below) / 2e-6
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4)


def test_what_does_not_fit_is_refused():
    with pytest.raises(AssertionError):
        triplet_loss(jnp.zeros((3, 2)), jnp.zeros(4, int))
    with pytest.raises(ValueError, match="'easy'"):
        triplet_loss(jnp.zeros((3, 2)), jnp.zeros(3, int), mining="easy")
