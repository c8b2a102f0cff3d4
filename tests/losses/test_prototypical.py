"""The prototypical loss, against its equations in float64."""

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

from fsljax.losses import PrototypicalOutput, prototypes, prototypical_loss

WAY, SHOT, QUERIES, DIM = 4, 3, 2, 5
DISTANCES = ("squared_euclidean", "cosine")
few_examples = settings(max_examples=15, deadline=None)


def episode(
    seed: int = 0, *, scale: float = 1.0, offset: float = 0.0, shot: int = SHOT
) -> tuple[np.ndarray, np.ndarray]:
    """Support and query embeddings of a random episode."""
    normal = np.random.default_rng(seed).normal
    drawn = offset + scale * normal(size=(WAY, shot + QUERIES, DIM))
    return np.float32(drawn[:, :shot]), np.float32(drawn[:, shot:])


def reference(
    support: np.ndarray, query: np.ndarray, distance: str = "squared_euclidean", temperature: float = 1.0
) -> PrototypicalOutput:
    """One query at a time, in float64."""
    means = [np.sum(np.float64(of_class), axis=0) / len(of_class) for of_class in support]
    logits = np.zeros((*query.shape[:2], len(means)))
    for index in np.ndindex(logits.shape):
        x, p = np.float64(query[index[:2]]), means[index[2]]
        if distance == "squared_euclidean":
            logits[index] = -((x - p) @ (x - p)) / temperature
        else:
            logits[index] = -(1 - x @ p / np.linalg.norm(x) / np.linalg.norm(p)) / temperature
    losses, right = [], []
    for c, q in np.ndindex(query.shape[:2]):
        highest = np.max(logits[c, q])
        losses.append(highest + np.log(np.sum(np.exp(logits[c, q] - highest))) - logits[c, q, c])
        right.append(np.argmax(logits[c, q]) == c)
    return PrototypicalOutput(np.mean(losses), np.mean(right), logits)


def central_differences(function, x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    gradient = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        change = np.zeros(x.shape)
        change[index] = step
        gradient[index] = (function(x + change) - function(x - change)) / (2 * step)
    return gradient


class PrototypicalTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.product(distance=DISTANCES, scale=(0.01, 1.0, 1e4), temperature=(1.0, 0.1))
    def test_the_output_equals_the_equations(self, distance: str, scale: float, temperature: float):
        support, query = episode(scale=scale)
        ours = self.variant(partial(prototypical_loss, distance=distance, temperature=temperature))(
            support, query
        )
        expected = reference(support, query, distance, temperature)
        chex.assert_trees_all_close(ours, jax.tree.map(np.float32, expected), rtol=1e-5, atol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_prototypes_are_means_over_the_shots(self):
        support, _ = episode()
        np.testing.assert_allclose(self.variant(prototypes)(support), support.sum(axis=1) / SHOT, rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(*DISTANCES)
    def test_under_vmap_it_equals_a_loop(self, distance: str):
        episodes = [episode(seed) for seed in range(3)]
        support, query = map(np.stack, zip(*episodes, strict=True))
        loss = partial(prototypical_loss, distance=distance)
        looped = jax.tree.map(lambda *parts: np.stack(parts), *(loss(*each) for each in episodes))
        chex.assert_trees_all_close(self.variant(jax.vmap(loss))(support, query), looped, rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.product(distance=DISTANCES, offset=(0.0, 30.0))
    def test_bfloat16_embeddings_are_compared_in_float32(self, distance: str, offset: float):
        support, query = (jnp.asarray(part, jnp.bfloat16) for part in episode(offset=offset))
        ours = self.variant(partial(prototypical_loss, distance=distance))(support, query)
        expected = reference(np.asarray(support), np.asarray(query), distance)
        assert ours.loss.dtype == ours.logits.dtype == prototypes(support).dtype == jnp.float32
        chex.assert_trees_all_close(ours, jax.tree.map(np.float32, expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_gradients_are_those_of_finite_differences_of_the_equations(distance: str, temperature: float):
    support, query = episode()
    ours = jax.grad(
        lambda s, q: prototypical_loss(s, q, distance=distance, temperature=temperature).loss,
        argnums=(0, 1),
    )(support, query)
    expected = (
        central_differences(lambda s: reference(s, query, distance, temperature).loss, support),
        central_differences(lambda q: reference(support, q, distance, temperature).loss, query),
    )
    chex.assert_trees_all_close(ours, jax.tree.map(np.float32, expected), rtol=1e-4, atol=1e-5)


def test_the_gradient_of_bfloat16_embeddings_is_bfloat16():
    support, query = (jnp.asarray(part, jnp.bfloat16) for part in episode())
    gradients = jax.grad(lambda s, q: prototypical_loss(s, q).loss, argnums=(0, 1))(support, query)
    assert [gradient.dtype for gradient in gradients] == [jnp.bfloat16, jnp.bfloat16]
    chex.assert_tree_all_finite(gradients)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("value", [0.0, 1.0, 1e4])
def test_equal_embeddings_give_the_loss_of_a_guess_and_gradients_of_0_not_nan(distance: str, value: float):
    """With one shot and one query, both at the prototype, every distance is 0."""
    support, query = np.full((WAY, 1, DIM), value, np.float32), np.full((WAY, 1, DIM), value, np.float32)
    loss = partial(prototypical_loss, distance=distance)
    output = loss(support, query)
    np.testing.assert_allclose(output.loss, np.log(WAY), rtol=1e-6)
    assert output.accuracy == 1 / WAY
    gradients = jax.grad(lambda s, q: loss(s, q).loss, argnums=(0, 1))(support, query)
    chex.assert_tree_all_finite(gradients)
    if distance == "squared_euclidean" or value:
        chex.assert_trees_all_close(gradients, (np.zeros_like(support), np.zeros_like(query)), atol=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("scale", [1e-18, 1e4, 1e6])
@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_extreme_embeddings_keep_loss_and_gradients_finite(distance: str, scale: float, temperature: float):
    """Compiled, the rounding of a logit of 1e10 must not come before exp."""
    support, query = (np.repeat(part, 8, axis=-1) for part in episode(scale=scale))
    loss = partial(prototypical_loss, distance=distance, temperature=temperature)
    chex.assert_tree_all_finite(
        jax.jit(jax.value_and_grad(lambda s, q: loss(s, q).loss, argnums=(0, 1)))(support, query)
    )


@pytest.mark.parametrize("offset", [30.0, 1e4])
def test_no_logit_is_positive_or_wrong_far_from_the_origin(offset: float):
    """A squared distance that goes negative would be a positive logit; one shot needs no rounded mean."""
    support, query = episode(offset=offset, shot=1)
    query[:, 0] = support[:, 0]
    logits = np.asarray(prototypical_loss(support, query).logits)
    assert logits.max() <= 0
    np.testing.assert_array_equal(logits[np.arange(WAY), 0, np.arange(WAY)], 0)
    np.testing.assert_allclose(logits, reference(support, query).logits, rtol=1e-5)


def test_a_lower_temperature_divides_distances_and_may_be_traced():
    support, query = episode()
    logits = prototypical_loss(support, query).logits
    traced = jax.jit(lambda t: prototypical_loss(support, query, temperature=t).logits)(0.25)
    np.testing.assert_allclose(traced, 4 * logits, rtol=1e-6)


def test_queries_of_well_separated_classes_are_all_right_and_swapped_ones_all_wrong():
    centres = 10 * np.eye(WAY, DIM, dtype=np.float32)[:, None]
    support, query = (0.1 * part + centres for part in episode())
    assert prototypical_loss(support, query).accuracy == 1
    assert prototypical_loss(support, query[::-1]).accuracy == 0


@pytest.mark.parametrize("distance", DISTANCES)
@few_examples
@given(seed=st.integers(0, 2**31))
def test_the_order_of_classes_shots_and_queries_does_not_matter(distance: str, seed: int):
    support, query = episode(seed)
    generator = np.random.default_rng(seed)
    classes, shots, queries = map(generator.permutation, (WAY, SHOT, QUERIES))
    plain = prototypical_loss(support, query, distance=distance)
    permuted = prototypical_loss(
        support[classes][:, shots], query[classes][:, queries], distance=distance
    )  # fmt: skip
    expected = plain._replace(logits=plain.logits[classes][:, queries][:, :, classes])
    chex.assert_trees_all_close(permuted, expected, rtol=1e-5, atol=1e-6)


@few_examples
@given(seed=st.integers(0, 2**31), offset=st.floats(-100, 100, width=32))
def test_moving_all_embeddings_leaves_the_output_as_it_is(seed: int, offset: float):
    plain, moved = (prototypical_loss(*episode(seed, offset=by)) for by in (0.0, offset))
    chex.assert_trees_all_close(
        (moved.loss, moved.logits), (plain.loss, plain.logits), rtol=1e-3, atol=1e-3
    )  # fmt: skip


@few_examples
@given(seed=st.integers(0, 2**31), scale=st.floats(0.125, 1024, width=32))
def test_the_cosine_distance_ignores_the_length_of_queries_and_of_classes(seed: int, scale: float):
    support, query = episode(seed)
    plain = prototypical_loss(support, query, distance="cosine")
    scaled = prototypical_loss(scale * support, query / scale, distance="cosine")
    chex.assert_trees_all_close(scaled, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("support", "query", "message"),
    [
        ((4, 5), (4, 2, 5), "rank"),
        ((4, 3, 5), (8, 5), "rank"),
        ((4, 3, 5), (3, 2, 5), "prefix"),
        ((4, 3, 5), (4, 2, 6), "suffix"),
        ((4, 0, 5), (4, 2, 5), "axis '1' but got '0'"),
        ((4, 3, 5), (4, 0, 5), "axis '1' but got '0'"),
    ],
)
def test_other_shapes_are_refused_when_called_and_when_traced(support, query, message: str):
    for call in (prototypical_loss, jax.jit(prototypical_loss)):
        with pytest.raises(AssertionError, match=message):
            call(np.zeros(support), np.zeros(query))


@pytest.mark.parametrize("shape", [(4, 5), (2, 4, 3, 5), (4, 0, 5)])
def test_prototypes_need_rank_3_and_a_shot(shape: tuple[int, ...]):
    with pytest.raises(AssertionError, match=r"rank|axis '1' but got '0'"):
        prototypes(np.zeros(shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"distance": "euclidean"}, "distance is 'euclidean'; it can be 'squared_euclidean' or 'cosine'"),
        ({"temperature": 0}, "temperature is 0; it must be above 0"),
        ({"temperature": -1.0}, "temperature is -1.0; it must be above 0"),
        ({"temperature": float("nan")}, "temperature is nan; it must be above 0"),
    ],
)
def test_impossible_arguments_are_told_in_a_sentence(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        prototypical_loss(*episode(), **arguments)
