"""Magnet's batches, against their description."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.clustering import KMeansResult, kmeans_per_class
from fsljax.data.samplers.neighbourhoods import (
    ClusterIndex,
    cluster_losses,
    draw_neighbourhood,
    empty_index,
    refreshed,
    with_losses,
)

CLASSES, K, N, DIM = 5, 2, 60, 3
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(CLASSES), [20, 14, 12, 11, 3]))
POINTS = np.float32(np.random.default_rng(1).normal(size=(N, DIM)) + LABELS[:, None])


def clustered() -> KMeansResult:
    return kmeans_per_class(
        jax.random.key(0), POINTS, LABELS, num_classes=CLASSES, clusters_per_class=K, num_restarts=3
    )


def index() -> ClusterIndex:
    return refreshed(empty_index(CLASSES, K, N, DIM), jnp.asarray(LABELS), clustered())


def test_a_refresh_lists_the_members_of_each_cluster():
    now = index()
    starts = np.cumsum(now.counts) - now.counts
    for cluster, (start, count) in enumerate(zip(starts, now.counts, strict=True)):
        members = np.asarray(now.order[start : start + count])
        assert (np.asarray(now.assignments)[members] == cluster).all()
        assert (LABELS[members] == now.classes[cluster]).all()
        np.testing.assert_allclose(now.centroids[cluster], POINTS[members].mean(0), rtol=1e-4, atol=1e-5)
    assert now.counts.sum() == N
    residuals = POINTS - np.asarray(now.centroids)[now.assignments]
    np.testing.assert_allclose(now.variance, (residuals**2).sum() / (N - 1), rtol=1e-4)


def test_losses_stay_with_their_examples_through_a_refresh():
    rows, losses = np.array([[3, 9], [11, 40]]), np.array([[1.0, 2.0], [3.0, 0.5]])
    before = with_losses(index(), rows, losses)
    other = clustered()
    moved = refreshed(before, jnp.asarray(LABELS), other._replace(assignments=1 - other.assignments))
    np.testing.assert_array_equal(moved.losses[rows], losses)
    np.testing.assert_array_equal(moved.losses, before.losses)
    assert moved.seen.sum() == 4


def test_a_clusters_loss_is_the_mean_over_its_members_and_unseen_ones_count_as_the_mean_of_the_seen():
    now = index()
    np.testing.assert_array_equal(cluster_losses(now), np.ones(CLASSES * K))
    rows = np.array([[0, 1, 2, 3, 4, 5]])
    values = np.array([[0.0, 2.0, 4.0, 1.0, 0.5, 3.0]])
    now = with_losses(now, rows, values)
    expected = np.full(N, values.mean())
    expected[rows[0]] = values[0]
    means = [expected[np.asarray(now.assignments) == c].mean() for c in range(CLASSES * K)]
    np.testing.assert_allclose(cluster_losses(now), means, rtol=1e-6)
    gone = now._replace(counts=now.counts.at[3].set(0))
    assert cluster_losses(gone)[3] == 0


def draws(now: ClusterIndex, count: int = 400, clusters: int = 4, examples: int = 3):
    keys = jax.random.split(jax.random.key(7), count)
    return jax.device_get(
        jax.jit(
            jax.vmap(
                lambda key: draw_neighbourhood(
                    key, now, clusters=clusters, examples=examples, largest_cluster=20
                )
            )
        )(keys)
    )


def test_a_batch_is_a_seed_and_the_nearest_clusters_of_other_classes():
    now = index()
    centroids = np.float64(now.centroids)
    for clusters in draws(now, 30).clusters:
        seed = clusters[0]
        others = np.flatnonzero(now.classes != now.classes[seed])
        distances = ((centroids[others] - centroids[seed]) ** 2).sum(-1)
        np.testing.assert_array_equal(clusters[1:], others[np.argsort(distances)[:3]])


def test_examples_are_distinct_members_of_their_cluster_and_all_have_their_turn():
    now = index()
    batches = draws(now)
    counts = np.asarray(now.counts)
    for clusters, classes, rows in zip(*batches, strict=True):
        for cluster, label, members in zip(clusters, classes, rows, strict=True):
            assert (np.asarray(now.assignments)[members] == cluster).all()
            assert (LABELS[members] == label).all()
            if counts[cluster] >= 3:
                assert len(set(members.tolist())) == 3
    assert len(np.unique(batches.rows)) == N


def test_seeds_are_drawn_in_proportion_to_their_loss():
    now = index()
    now = with_losses(now, np.arange(N)[None], np.where(np.asarray(now.assignments) == 4, 3.0, 1.0)[None])
    seeds = draws(now, 4000).clusters[:, 0]
    shares = np.bincount(seeds, minlength=CLASSES * K) / 4000
    expected = np.where(np.arange(CLASSES * K) == 4, 3.0, 1.0) / (3 + CLASSES * K - 1)
    np.testing.assert_allclose(shares, expected, atol=4 * np.sqrt(0.25 / 4000))


def test_where_no_example_has_a_loss_every_cluster_can_be_the_seed():
    now = with_losses(index(), np.arange(N)[None], np.zeros((1, N)))
    assert set(draws(now).clusters[:, 0]) == set(range(CLASSES * K))


@pytest.mark.parametrize("missing", [[9], [1, 3]])
def test_clusters_that_do_not_exist_are_never_drawn(missing: list[int]):
    now = index()
    members = np.isin(now.assignments, missing)
    assignments = np.where(members, np.asarray(now.assignments) - 1, now.assignments)
    counts = np.bincount(assignments, minlength=CLASSES * K)
    now = now._replace(
        assignments=jnp.asarray(assignments),
        counts=jnp.asarray(counts, jnp.int32),
        order=jnp.asarray(np.argsort(assignments, kind="stable"), jnp.int32),
        centroids=now.centroids.at[jnp.asarray(missing)].set(0.0),
    )
    batches = draws(now)
    assert not np.isin(batches.clusters, missing).any()
    assert (np.asarray(now.assignments)[batches.rows] == batches.clusters[..., None]).all()


def test_if_equal_points_leave_too_few_clusters_the_nearest_stands_in():
    now = index()
    now = now._replace(counts=jnp.where(jnp.arange(CLASSES * K) < 4, now.counts, 0))
    for clusters, classes, _ in zip(*draws(now, 50), strict=True):
        assert (clusters < 4).all()
        assert (classes[1:] != classes[0]).all()
