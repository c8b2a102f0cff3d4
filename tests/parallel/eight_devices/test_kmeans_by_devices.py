"""k-means by several devices finds what one finds."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fsljax.clustering import KMeansResult, kmeans, kmeans_per_class
from fsljax.parallel.devices import Devices


def devices_of(count: int) -> Devices:
    return Devices(tuple(jax.devices()[:count]))


def blobs(count: int, dim: int, clusters: int, *, apart: float = 5.0, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = apart * generator.normal(size=(clusters, dim))
    return (centres[np.arange(count) % clusters] + generator.normal(size=(count, dim))).astype(np.float32)


def divided(points: np.ndarray, count: int, axes: tuple[str, ...] = ("rows",)) -> jax.Array:
    shape = (count,) if len(axes) == 1 else (2, count // 2)
    mesh = Mesh(np.array(jax.devices()[:count]).reshape(shape), axes)
    return jax.device_put(points, NamedSharding(mesh, PartitionSpec(axes)))


def assert_same(ours: KMeansResult, theirs: KMeansResult, *, rtol: float = 1e-5) -> None:
    np.testing.assert_array_equal(ours.assignments, theirs.assignments)
    np.testing.assert_array_equal(ours.counts, theirs.counts)
    np.testing.assert_array_equal(ours.iterations, theirs.iterations)
    np.testing.assert_allclose(ours.centroids, theirs.centroids, rtol=rtol, atol=1e-5)
    np.testing.assert_allclose(ours.inertia, theirs.inertia, rtol=rtol)


@pytest.mark.parametrize("count", [2, 8])
def test_classes_are_clustered_as_by_one_device(count):
    generator = np.random.default_rng(1)
    labels = np.concatenate([np.arange(11), generator.integers(0, 11, 300), [3] * 40]).astype(np.int32)
    points = blobs(len(labels), 20, 30)
    options = {"num_classes": 11, "clusters_per_class": 3, "num_restarts": 2}
    alone = kmeans_per_class(jax.random.key(0), points, labels, **options)
    ours = kmeans_per_class(jax.random.key(0), points, labels, **options, devices=devices_of(count))
    assert_same(ours, alone)


def test_fewer_classes_than_devices_and_centroids_to_begin_with():
    labels = np.repeat(np.arange(3), (5, 9, 70))
    points, first = blobs(len(labels), 6, 4), blobs(6, 6, 6, seed=3).reshape(3, 2, 6)
    options = {"num_classes": 3, "clusters_per_class": 2, "initial_centroids": first}
    alone = kmeans_per_class(jax.random.key(0), points, labels, **options)
    ours = kmeans_per_class(jax.random.key(0), points, labels, **options, devices=devices_of(8))
    jax.tree.map(np.testing.assert_array_equal, ours, alone)


def test_classes_of_tight_clusters_far_apart_are_told_apart_in_float64():
    generator = np.random.default_rng(0)
    labels = np.arange(400) % 4
    near = 1e-4 * np.where(np.arange(400) % 8 < 4, 1, -1)[:, None]
    points = (100.0 * labels[:, None] + near + 1e-6 * generator.normal(size=(400, 3))).astype(np.float32)
    points[::40] += 1000
    options = {"num_classes": 4, "clusters_per_class": 3}
    alone = kmeans_per_class(jax.random.key(0), points, labels, **options)
    ours = kmeans_per_class(jax.random.key(0), points, labels, **options, devices=devices_of(4))
    jax.tree.map(np.testing.assert_array_equal, ours, alone)


@pytest.mark.parametrize(("count", "restarts"), [(2, 3), (4, 1), (8, 3)])
def test_divided_points_are_clustered_as_undivided_ones(count, restarts):
    points = blobs(800, 12, 10)
    alone = kmeans(jax.random.key(4), points, 10, num_restarts=restarts)
    ours = kmeans(jax.random.key(4), divided(points, count), 10, num_restarts=restarts)
    assert_same(ours, alone)
    assert ours.assignments.sharding.shard_shape((800,)) == (800 // count,)
    assert ours.centroids.is_fully_replicated


def test_over_two_axes_in_blocks_with_a_mask():
    points = blobs(8 * 6000, 4, 30, apart=2.0)  # more rows of a device than a block has
    mask = np.random.default_rng(2).uniform(size=len(points)) < 0.7
    mask[:7000] = False  # the first device has none
    points[:100] = np.nan
    alone = kmeans(jax.random.key(1), points, 30, mask=mask, max_iterations=5, tolerance=0)
    for given in (mask, divided(mask, 8, ("a", "b")), mask.astype(np.float32)):
        ours = kmeans(
            jax.random.key(1), divided(points, 8, ("a", "b")), 30, mask=given, max_iterations=5, tolerance=0
        )
        agree = np.mean(np.asarray(ours.assignments) == alone.assignments)
        assert agree > 0.999
        np.testing.assert_allclose(ours.inertia, alone.inertia, rtol=1e-4)
        assert (np.asarray(ours.assignments)[~mask] == -1).all()


def test_empty_clusters_go_to_the_farthest_points():
    points = blobs(160, 5, 4, apart=50.0)
    first = np.tile(points.mean(axis=0), (6, 1)) + np.float32(1e4) * np.eye(6, 5, dtype=np.float32)
    first[0] = points.mean(axis=0)
    options = {"initial_centroids": first, "max_iterations": 8}
    alone = kmeans(jax.random.key(0), points, 6, **options)
    assert_same(kmeans(jax.random.key(0), divided(points, 8), 6, **options), alone)


@pytest.mark.parametrize("extent", [1.0, 1e-30])
def test_tight_clusters_far_apart_and_tiny_points(extent):
    generator = np.random.default_rng(0)
    centres = np.array([[0, 0], [1e-3, 0], [1000, 1000], [1000, 1000.5]])
    points = (centres[np.arange(800) % 4] + 1e-5 * generator.normal(size=(800, 2))).astype(np.float32)
    points = (points * extent).astype(np.float32)
    alone = kmeans(jax.random.key(0), points, 4, num_restarts=3)
    ours = kmeans(jax.random.key(0), divided(points, 4), 4, num_restarts=3)
    np.testing.assert_array_equal(ours.assignments, alone.assignments)
    np.testing.assert_allclose(ours.centroids, alone.centroids, rtol=1e-6, atol=1e-9 * extent)
    np.testing.assert_allclose(ours.inertia, alone.inertia, rtol=1e-6)


def test_what_is_refused_of_divided_points():
    points = blobs(80, 3, 2)
    points[43, 1] = np.inf
    with pytest.raises(ValueError, match="Point 43 is NaN or infinite"):
        kmeans(jax.random.key(0), divided(points, 8), 3)
    with pytest.raises(ValueError, match=r"int32.*floating-point"):
        kmeans(jax.random.key(0), divided(np.arange(80, dtype=np.int32).reshape(40, 2), 8), 3)
    mask = np.arange(80) < 2
    with pytest.raises(ValueError, match="3 clusters of 2 points"):
        kmeans(jax.random.key(0), divided(blobs(80, 3, 2), 8), 3, mask=divided(mask, 8))
