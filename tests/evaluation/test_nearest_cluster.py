"""Posteriors by the nearest clusters, against their formula in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsljax.errors import UserError
from fsljax.evaluation import nearest_cluster
from fsljax.evaluation.nearest_cluster import classify, log_posteriors

few_examples = settings(max_examples=20, deadline=None)


def clusters(
    *, classes: int = 6, k: int = 3, dim: int = 5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, centroids and counts; some clusters do not exist, and their centroids are no numbers."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 4, (classes, k))
    counts[0, 0] = 1
    centroids = generator.normal(size=(classes, k, dim)).astype(np.float32)
    centroids[counts == 0] = np.nan
    return generator.normal(size=(40, dim)).astype(np.float32), centroids, counts


def reference(
    embeddings: np.ndarray, centroids: np.ndarray, counts: np.ndarray, variance: float, num_nearest: int = 128
) -> np.ndarray:
    """One embedding at a time, in float64, summing exponentials as the formula says."""
    posteriors = np.zeros((len(embeddings), len(centroids)))
    existing = [(c, i) for c in range(len(centroids)) for i in range(counts.shape[1]) if counts[c, i]]
    for row, x in enumerate(np.float64(embeddings)):
        far = np.array([np.sum((x - np.float64(centroids[c, i])) ** 2) for c, i in existing])
        for near in np.argsort(far, kind="stable")[:num_nearest]:
            posteriors[row, existing[near][0]] += np.exp(-(far[near] - far.min()) / (2 * variance))
    return posteriors / posteriors.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("num_nearest", [1, 2, 5, 128])
@pytest.mark.parametrize("variance", [0.05, 1.0, 30.0])
def test_posteriors_equal_the_formula(num_nearest: int, variance: float):
    embeddings, centroids, counts = clusters()
    expected = reference(embeddings, centroids, counts, variance, num_nearest)
    found = classify(embeddings, centroids, counts, variance, num_nearest=num_nearest)
    np.testing.assert_allclose(found.posteriors, expected, rtol=2e-5, atol=1e-7)
    np.testing.assert_array_equal(found.predictions, expected.argmax(axis=1))
    assert len(np.unique(found.predictions)) > 2


def test_the_128_nearest_of_more_clusters_have_a_say():
    embeddings, centroids, counts = clusters(classes=70, k=4, seed=3)
    existing = int((counts > 0).sum())
    assert existing > 200
    expected = reference(embeddings, centroids, counts, 5.0, 128)
    everything = reference(embeddings, centroids, counts, 5.0, existing)
    assert np.abs(expected - everything).max() > 1e-3
    np.testing.assert_allclose(classify(embeddings, centroids, counts, 5.0).posteriors, expected, rtol=5e-5)
    whole = classify(embeddings, centroids, counts, 5.0, num_nearest=1000)
    np.testing.assert_allclose(whole.posteriors, everything, rtol=5e-5)


@pytest.mark.parametrize("floats", [1, 18 * 7, 18 * 40, 10**6])
def test_the_last_block_may_be_partly_filled(floats: int, monkeypatch: pytest.MonkeyPatch):
    whole = classify(*clusters(), 1.0)
    monkeypatch.setattr(nearest_cluster, "_FLOATS_A_BLOCK", floats)
    in_parts = classify(*clusters(), 1.0)
    np.testing.assert_allclose(in_parts.posteriors, whole.posteriors, rtol=1e-5)
    np.testing.assert_array_equal(in_parts.predictions, whole.predictions)


@pytest.mark.parametrize("offset", [30.0, 1e4])
def test_a_large_common_offset_costs_no_digits(offset: float):
    embeddings, centroids, counts = clusters()
    embeddings, centroids = embeddings + np.float32(offset), centroids + np.float32(offset)
    expected = reference(embeddings, centroids, counts, 0.5)
    found = classify(embeddings, centroids, counts, 0.5)
    np.testing.assert_allclose(found.posteriors, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("distance", [1e3, 1e8, 1e16])
def test_far_points_belong_to_the_nearest_cluster_and_are_never_nan(distance: float):
    """Their exponentials are all 0 in any float type; relative to the nearest they are not."""
    embeddings = np.array([[distance, 0.0], [0.0, -distance]], np.float32)
    centroids = np.array([[[0.0, 1.0]], [[0.4 * distance, 0.0]], [[0.0, -0.4 * distance]]], np.float32)
    found = classify(embeddings, centroids, np.ones((3, 1), int), 1e-6)
    np.testing.assert_array_equal(found.posteriors, [[0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(found.predictions, [1, 2])


def test_without_variance_all_weight_is_the_nearest_clusters():
    embeddings, centroids, counts = clusters()
    expected = reference(embeddings, centroids, counts, 1e-9).argmax(axis=1)
    found = classify(embeddings, centroids, counts, 0.0)
    np.testing.assert_array_equal(found.posteriors, np.eye(6)[expected])
    shared = np.zeros((2, 1, 5), np.float32)
    halves = classify(embeddings, shared, np.ones((2, 1), int), 0.0)
    np.testing.assert_array_equal(halves.posteriors, np.full((40, 2), 0.5))


def test_equal_classes_are_decided_for_the_lower_and_equal_clusters_at_the_edge_too():
    centroids = np.zeros((4, 2, 3), np.float32)
    counts = np.array([[0, 0], [3, 1], [9, 9], [1, 1]])
    embeddings = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    found = classify(embeddings, centroids, counts, 1.0)
    np.testing.assert_allclose(found.posteriors, np.tile([0, 1 / 3, 1 / 3, 1 / 3], (9, 1)), rtol=1e-6)
    assert (found.predictions == 1).all()
    edge = classify(embeddings, centroids, counts, 1.0, num_nearest=3)
    np.testing.assert_allclose(edge.posteriors, np.tile([0, 2 / 3, 1 / 3, 0], (9, 1)), rtol=1e-6)


def test_one_class_with_one_cluster_takes_everything():
    embeddings, *_ = clusters()
    found = classify(embeddings, np.zeros((1, 1, 5)), np.ones((1, 1), int), 1.0)
    np.testing.assert_array_equal(found.posteriors, np.ones((40, 1)))
    np.testing.assert_array_equal(found.predictions, np.zeros(40))


def test_works_under_jit_and_vmap_and_in_bfloat16():
    embeddings, centroids, counts = clusters()
    whole = log_posteriors(embeddings, centroids, counts, 1.0)
    jitted = jax.jit(lambda *a: log_posteriors(*a, num_nearest=128))(embeddings, centroids, counts, 1.0)
    np.testing.assert_allclose(jitted, whole, rtol=1e-5, atol=1e-5)
    mapped = jax.vmap(lambda part: log_posteriors(part, centroids, counts, 1.0))(embeddings.reshape(4, 10, 5))
    np.testing.assert_allclose(mapped.reshape(40, 6), whole, rtol=1e-5, atol=1e-5)
    rounded = jnp.asarray(embeddings, jnp.bfloat16)
    expected = reference(np.asarray(rounded, np.float32), centroids, counts, 1.0)
    ours = log_posteriors(rounded, centroids, counts, 1.0)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(np.exp(ours), expected, rtol=2e-5, atol=1e-7)


@few_examples
@given(seed=st.integers(0, 2**31), offset=st.integers(-1000, 1000))
def test_moving_everything_and_renaming_classes_and_clusters_changes_nothing(seed: int, offset: int):
    embeddings, centroids, counts = clusters(seed=seed)
    # Whole numbers are moved without rounding.
    embeddings, centroids = np.round(8 * embeddings), np.round(8 * centroids)
    before = classify(embeddings, centroids, counts, 20.0).posteriors
    generator = np.random.default_rng(seed)
    of_classes, of_clusters = generator.permutation(6), generator.permutation(3)
    after = classify(
        embeddings + offset,
        centroids[of_classes][:, of_clusters] + offset,
        counts[of_classes][:, of_clusters],
        20.0,
    )
    np.testing.assert_allclose(after.posteriors, before[:, of_classes], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embeddings": np.full((2, 5), np.nan)}, "2 of the 2 embeddings"),
        ({"embeddings": np.ones((2, 4))}, r"centroids are \[6, 3, 5\].*\[classes, k, 4\]"),
        ({"counts": np.ones((6, 2), int)}, r"counts \[6, 2\]"),
        ({"counts": np.zeros((6, 3), int)}, "No cluster has an example"),
        ({"counts": np.ones((6, 3), int)}, "of the 18 centroids have values that are not finite"),
        ({"variance": -1.0}, "variance of the clusters is -1.0"),
        ({"variance": np.nan}, "variance of the clusters is nan"),
        ({"num_nearest": 0}, "num_nearest is 0"),
    ],
)
def test_what_cannot_be_classified_is_refused_in_words(change: dict, message: str):
    embeddings, centroids, counts = clusters()
    given = {"embeddings": embeddings, "centroids": centroids, "counts": counts, "variance": 1.0} | change
    with pytest.raises(UserError, match=message):
        classify(**given)
