"""k-means, against Lloyd's iterations in float64 and against its own promises."""

from __future__ import annotations

import itertools
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from fsljax.clustering import KMeansResult, compiled, kmeans, kmeans_per_class

KEY = jax.random.key(0)


def blobs(seed: int = 0, *, n: int = 200, dim: int = 4, groups: int = 5, offset: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = 4 * generator.normal(size=(groups, dim))
    return np.float32(offset + centres[generator.integers(groups, size=n)] + generator.normal(size=(n, dim)))


def distances(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    return ((np.float64(points)[:, None] - np.float64(centroids)[None]) ** 2).sum(-1)


def lloyd(points: np.ndarray, centroids: np.ndarray, iterations: int) -> tuple[np.ndarray, float]:
    """Lloyd's iterations in float64, for clusters that never become empty; centroids and inertia."""
    centroids = np.float64(centroids)
    for _ in range(iterations):
        nearest = distances(points, centroids).argmin(1)
        centroids = np.array([np.float64(points[nearest == c]).mean(0) for c in range(len(centroids))])
    return centroids, distances(points, centroids).min(1).sum()


def check_result(result: KMeansResult, points: np.ndarray, k: int) -> None:
    """What must hold for any result: nearest centroids, their counts, and the inertia of both."""
    apart = distances(points, result.centroids)
    nearest = apart[np.arange(len(points)), result.assignments]
    scale = np.abs(points - points.mean(0)).max() ** 2
    assert result.centroids.shape == (k, points.shape[1])
    np.testing.assert_allclose(nearest, apart.min(1), rtol=1e-4, atol=1e-5 * scale)
    np.testing.assert_array_equal(result.counts, np.bincount(result.assignments, minlength=k))
    np.testing.assert_allclose(result.inertia, nearest.sum(), rtol=1e-4, atol=1e-5 * scale)


class KMeansTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.product(
        n=(200, 5000),  # in one block and in several
        dim=(4, 300),  # by coordinates, and where that is more than the points by products
        offset=(0.0, 1000.0),
        iterations=(1, 4),
    )
    def test_from_given_centroids_it_takes_lloyds_iterations(
        self, n: int, dim: int, offset: float, iterations: int
    ):
        points = blobs(n=n, dim=dim, offset=offset)
        initial = points[:5]
        run = partial(kmeans, num_clusters=5, max_iterations=iterations, tolerance=0.0)
        result = self.variant(run)(KEY, points, initial_centroids=initial)
        expected, inertia = lloyd(points, initial, int(result.iterations))
        assert 1 <= result.iterations <= iterations
        np.testing.assert_allclose(result.centroids, expected, rtol=1e-4, atol=1e-3 + 1e-6 * offset)
        np.testing.assert_allclose(result.inertia, inertia, rtol=1e-4)
        check_result(result, points, 5)

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(4, 300)
    def test_under_vmap_it_equals_a_loop(self, dim: int):
        sets = np.stack([blobs(seed, dim=dim) for seed in range(3)])
        keys = jax.random.split(KEY, 3)
        run = partial(kmeans, num_clusters=5)
        looped = jax.tree.map(
            lambda *parts: np.stack(parts), *(run(k, p) for k, p in zip(keys, sets, strict=True))
        )
        ours = self.variant(jax.vmap(run))(keys, sets)
        np.testing.assert_array_equal(ours.assignments, looped.assignments)
        chex.assert_trees_all_close(ours, looped, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [200, 5000])
def test_well_separated_groups_are_found(n: int):
    points = blobs(n=n, groups=5)
    result = kmeans(KEY, points, 5, num_restarts=3)
    check_result(result, points, 5)
    assert result.inertia < 1.1 * points.shape[1] * n  # variance 1 in every direction


@pytest.mark.parametrize("dim", [2, 300])
def test_the_inertia_never_rises(dim: int):
    points = np.random.default_rng(0).normal(size=(250, dim)).astype(np.float32)
    inertias = [
        float(kmeans(KEY, points, 12, max_iterations=most, tolerance=0.0).inertia) for most in range(1, 25)
    ]
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in itertools.pairwise(inertias))
    assert inertias[-1] < inertias[0]


def test_a_tolerance_ends_the_iterations_earlier():
    points = np.random.default_rng(0).normal(size=(2000, 2)).astype(np.float32)
    exact = kmeans(KEY, points, 12, tolerance=0.0, max_iterations=1000)
    rough = kmeans(KEY, points, 12, tolerance=0.01)
    assert rough.iterations < exact.iterations < 1000
    means = [points[exact.assignments == c].mean(0) for c in range(12)]
    np.testing.assert_allclose(exact.centroids, means, rtol=1e-4, atol=1e-4)


def test_the_best_of_more_restarts_is_no_worse():
    points = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    inertias = [float(kmeans(key, points, 15).inertia) for key in jax.random.split(KEY, 4)]
    best = kmeans(KEY, points, 15, num_restarts=4)
    assert float(best.inertia) == min(inertias) < max(inertias)


@pytest.mark.parametrize("dim", [3, 300])
def test_the_same_key_gives_the_same_result(dim: int):
    points = blobs(dim=dim)
    chex.assert_trees_all_equal(kmeans(KEY, points, 7), kmeans(KEY, points, 7))


@pytest.mark.parametrize("dim", [3, 300])
def test_masked_points_do_not_count(dim: int):
    points = blobs(dim=dim)
    mask = np.arange(200) % 3 > 0
    spoilt = np.where(mask[:, None], points, np.nan).astype(np.float32)
    ours = kmeans(KEY, spoilt, 4, mask=mask, initial_centroids=points[1:3].repeat(2, 0) + np.eye(4, dim))
    alone = kmeans(KEY, points[mask], 4, initial_centroids=points[1:3].repeat(2, 0) + np.eye(4, dim))
    assert (ours.assignments[~mask] == -1).all()
    np.testing.assert_array_equal(ours.assignments[mask], alone.assignments)
    np.testing.assert_allclose(ours.centroids, alone.centroids, rtol=1e-4, atol=1e-4)
    seeded = kmeans(KEY, spoilt, 4, mask=mask)
    check_result(seeded._replace(assignments=seeded.assignments[mask]), points[mask], 4)


@pytest.mark.parametrize("dim", [2, 300])
def test_an_empty_cluster_goes_to_the_farthest_point(dim: int):
    points = np.zeros((20, dim), np.float32)
    points[:10, 0], points[10:19, 0], points[19, 0] = -1, 1, 50
    nowhere = np.full((2, dim), 1e3, np.float32)
    initial = np.concatenate([np.zeros((1, dim), np.float32), nowhere])
    result = kmeans(KEY, points, 3, initial_centroids=initial, tolerance=0.0)
    assert sorted(result.counts.tolist()) == [1, 9, 10]
    np.testing.assert_allclose(result.inertia, 0, atol=1e-3)


@pytest.mark.parametrize("dim", [2, 300])
def test_equally_near_centroids_give_way_to_the_first(dim: int):
    points = np.zeros((5, dim), np.float32)
    points[:, 0] = [-1, -1, 0, 1, 1]
    result = kmeans(KEY, points, 2, initial_centroids=points[[0, 4]], max_iterations=1)
    assert result.assignments.tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("dim", [1, 2, 50])
@pytest.mark.parametrize("value", [0.0, 1e4])
def test_equal_points_are_one_cluster(dim: int, value: float):
    result = kmeans(KEY, np.full((30, dim), value, np.float32), 3, num_restarts=2)
    assert result.counts.tolist() == [30, 0, 0]
    assert result.inertia == 0
    assert np.isfinite(result.centroids).all()


@pytest.mark.parametrize("dim", [2, 300])
def test_as_many_clusters_as_points_leave_no_inertia(dim: int):
    points = np.random.default_rng(0).normal(size=(9, dim)).astype(np.float32)
    result = kmeans(KEY, points, 9)
    assert result.counts.tolist() == [1] * 9
    np.testing.assert_allclose(result.inertia, 0, atol=1e-3)


@given(seed=st.integers(0, 100), shift=st.floats(-1e3, 1e3))
@settings(max_examples=15, deadline=None)
def test_moving_all_points_moves_the_centroids(seed: int, shift: float):
    points = blobs(seed)
    initial = points[:4]
    still = kmeans(KEY, points, 4, initial_centroids=initial)
    moved = kmeans(KEY, points + np.float32(shift), 4, initial_centroids=initial + np.float32(shift))
    np.testing.assert_allclose(moved.centroids - np.float32(shift), still.centroids, atol=1e-3)
    np.testing.assert_allclose(moved.inertia, still.inertia, rtol=1e-3)


def test_bfloat16_points_are_summed_in_float32():
    points = jnp.asarray(blobs(n=5000, offset=3.0), jnp.bfloat16)
    result = kmeans(KEY, points, 5)
    assert result.centroids.dtype == result.inertia.dtype == jnp.float32
    check_result(result, np.asarray(points, np.float32), 5)


def test_seeds_are_drawn_near_to_the_optimum():
    """Greedy k-means++ alone, one iteration: far better than points at random."""
    points = blobs(n=3000, dim=8, groups=40)
    seeded = float(kmeans(KEY, points, 40, max_iterations=1).inertia)
    at_random = float(kmeans(KEY, points, 40, max_iterations=1, initial_centroids=points[:40]).inertia)
    assert seeded < 0.7 * at_random


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_clusters": 201}, "201 clusters of 200 points"),
        ({"num_clusters": 0}, "clusters = 0"),
        ({"mask": np.arange(200) < 4}, "5 clusters of 4 points"),
        ({"max_iterations": 0}, "max_iterations = 0"),
        ({"num_restarts": 0}, "num_restarts = 0"),
        ({"tolerance": -1.0}, "tolerance -1.0"),
        ({"tolerance": float("nan")}, "tolerance nan"),
    ],
)
def test_impossible_requests_are_refused_in_words(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        kmeans(**{"key": KEY, "points": blobs(), "num_clusters": 5} | change)


@pytest.mark.parametrize("dim", [4, 300])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_points_that_are_no_numbers_are_named(dim: int, bad: float):
    points = blobs(dim=dim)
    points[17, 1] = bad
    with pytest.raises(ValueError, match="Point 17 is NaN or infinite"):
        kmeans(KEY, points, 5)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(AssertionError):
        kmeans(KEY, jnp.zeros(5), 2)
    with pytest.raises(AssertionError):
        kmeans(KEY, jnp.zeros((5, 2)), 2, mask=np.ones(4, bool))
    with pytest.raises(AssertionError):
        kmeans(KEY, jnp.zeros((5, 2)), 2, initial_centroids=jnp.zeros((3, 2)))
    with pytest.raises(AssertionError):
        kmeans_per_class(KEY, jnp.zeros((5, 2)), np.zeros(4, int), num_classes=1, clusters_per_class=1)


RAGGED = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [40, 2, 17, 91]))


@pytest.mark.parametrize("dim", [5, 100])
def test_each_class_is_clustered_by_itself(dim: int):
    points = blobs(n=150, dim=dim, groups=12, offset=50.0)
    initial = np.stack([points[c == RAGGED][[0, 1, 1 if c == 1 else 2]] for c in range(4)])
    ours = kmeans_per_class(
        KEY, points, RAGGED, num_classes=4, clusters_per_class=3, initial_centroids=initial, tolerance=0.0
    )
    chex.assert_shape(ours.centroids, (4, 3, dim))
    for c in (0, 2, 3):
        alone = kmeans(KEY, points[c == RAGGED], 3, initial_centroids=initial[c], tolerance=0.0)
        np.testing.assert_array_equal(ours.assignments[c == RAGGED], alone.assignments)
        np.testing.assert_array_equal(ours.counts[c], alone.counts)
        np.testing.assert_allclose(ours.centroids[c], alone.centroids, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(ours.inertia[c], alone.inertia, rtol=1e-3)


@pytest.mark.parametrize("dim", [5, 100])
def test_a_class_with_fewer_points_than_clusters_gets_as_many_as_it_has(dim: int):
    points = blobs(n=150, dim=dim)
    with pytest.warns(
        UserWarning, match=r"1 of 4 classes have fewer points .* = 5, .* as they have points: 1\."
    ):
        result = kmeans_per_class(KEY, points, RAGGED, num_classes=4, clusters_per_class=5)
    assert result.counts[1].tolist() == [1, 1, 0, 0, 0]
    assert result.counts.sum(1).tolist() == [40, 2, 17, 91]
    np.testing.assert_allclose(result.inertia[1], 0, atol=1e-3)
    for c in range(4):
        of_class = KMeansResult(*(part[c] for part in result))
        check_result(of_class._replace(assignments=result.assignments[c == RAGGED]), points[c == RAGGED], 5)


def test_classes_in_turns_and_traced_labels_give_the_same(monkeypatch: pytest.MonkeyPatch):
    points = blobs(n=150)
    run = partial(kmeans_per_class, num_classes=4, clusters_per_class=3)
    together = run(KEY, points, RAGGED, max_points_per_class=150)
    traced = jax.jit(run)(KEY, points, RAGGED)
    chex.assert_trees_all_close(traced, together, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(compiled, "_FLOATS_AT_ONCE", 2 * 140 * 4)
    in_turns = run(KEY, points, RAGGED, max_points_per_class=140)
    np.testing.assert_array_equal(
        in_turns.assignments, run(KEY, points, RAGGED, max_points_per_class=141).assignments
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(150, int), "Class 1 has no point"),
        (RAGGED + 1, "Labels go from 1 to 4"),
        (RAGGED - 1, "Labels go from -1 to 2"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        kmeans_per_class(KEY, blobs(n=150), labels, num_classes=4, clusters_per_class=2)


def test_a_class_larger_than_said_is_refused():
    with pytest.raises(ValueError, match="91 points, more than max_points_per_class = 50"):
        kmeans_per_class(
            KEY, blobs(n=150), RAGGED, num_classes=4, clusters_per_class=2, max_points_per_class=50
        )


def test_nothing_of_points_times_clusters_times_dimensions_is_made():
    n, k, dim = 3000, 50, 40
    lowered = jax.jit(partial(kmeans, num_clusters=k)).lower(KEY, jnp.zeros((n, dim)))
    memory = lowered.compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * n * k * dim / 4


@pytest.mark.gpu
def test_the_accelerator_agrees_with_the_cpu():
    points = blobs(n=5000, dim=16, groups=10)
    labels = np.arange(5000) % 20
    results = []
    for device in (jax.devices()[0], jax.devices("cpu")[0]):
        with jax.default_device(device):
            results.append(
                (
                    kmeans(KEY, points, 10, initial_centroids=points[:10]),
                    kmeans_per_class(KEY, points, labels, num_classes=20, clusters_per_class=3),
                )
            )
    chex.assert_trees_all_close(*results, rtol=1e-3, atol=1e-3)


def true_inertia(points: np.ndarray, result: KMeansResult) -> float:
    """In float64, of the nearest centroids."""
    return float(distances(points, result.centroids).min(1).sum())


@pytest.mark.parametrize("dim", [4, 300])
@pytest.mark.parametrize("spread", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
def test_the_inertia_of_tight_clusters_is_the_sum_of_their_differences(spread: float, dim: int):
    generator = np.random.default_rng(0)
    sides = np.repeat([-1.0, 1.0], 40)[:, None] / np.sqrt(dim)
    points = np.float32(sides + spread / np.sqrt(dim) * generator.normal(size=(80, dim)))
    for restarts in (1, 3):
        result = kmeans(KEY, points, 2, tolerance=0.0, num_restarts=restarts)
        np.testing.assert_allclose(result.inertia, true_inertia(points, result), rtol=1e-5)
        assert sorted(np.asarray(result.counts)) == [40, 40]
    both = np.concatenate([points, 3 + points])
    labels = np.repeat([0, 1], 80)
    ours = kmeans_per_class(KEY, both, labels, num_classes=2, clusters_per_class=2, tolerance=0.0)
    for label in (0, 1):
        apart = distances(both[labels == label], ours.centroids[label]).min(1).sum()
        np.testing.assert_allclose(ours.inertia[label], apart, rtol=1e-5)


@pytest.mark.parametrize("far", [1e2, 1e3, 1e4, 1e5])
def test_two_near_clusters_are_told_apart_beside_a_far_one(far: float):
    generator = np.random.default_rng(0)
    points = np.float32(np.repeat([[0, 0], [0.3, 0], [far, 0]], 200, axis=0)) + np.float32(
        0.03 * generator.normal(size=(600, 2))
    )
    result = kmeans(KEY, points, 3, tolerance=0.0)
    np.testing.assert_allclose(result.inertia, true_inertia(points, result), rtol=1e-5)
    np.testing.assert_array_equal(result.counts, [200] * 3)
    assert result.centroids.dtype == result.inertia.dtype == jnp.float32
    assert result.assignments.dtype == result.counts.dtype == jnp.int32


@pytest.mark.parametrize("kind", [np.float64, np.int64, np.int32])
@pytest.mark.parametrize("dim", [3, 200])
def test_a_large_offset_of_wide_numbers_costs_no_digits(dim: int, kind: type):
    generator = np.random.default_rng(0)
    apart = np.repeat([0, 200], 50)[:, None] + 10 * generator.normal(size=(100, dim))
    points = (apart + 1.7e9).astype(kind)
    result = kmeans(KEY, points, 2)
    np.testing.assert_array_equal(result.counts, [50, 50])
    np.testing.assert_allclose(result.inertia, true_inertia(points, result), rtol=1e-5)
    means = np.sort([points[:50].mean(0, np.float64), points[50:].mean(0, np.float64)], axis=0)
    np.testing.assert_allclose(np.sort(result.centroids, axis=0), means, rtol=0, atol=1e-3)
    started = kmeans(KEY, points, 2, initial_centroids=points[::99])
    np.testing.assert_array_equal(started.assignments, np.repeat([0, 1], 50))
    labels = np.arange(100) % 2
    of_classes = points + (labels * kind(3e8))[:, None].astype(kind)
    ours = kmeans_per_class(KEY, of_classes, labels, num_classes=2, clusters_per_class=2)
    np.testing.assert_array_equal(ours.counts, [[25, 25]] * 2)
    for label in (0, 1):
        own = of_classes[labels == label]
        np.testing.assert_allclose(
            ours.inertia[label], distances(own, ours.centroids[label]).min(1).sum(), rtol=1e-5
        )


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [4, 300])
def test_the_unit_of_length_changes_nothing(dim: int, kind: type):
    points = blobs(dim=dim).astype(kind)
    size = kind(2.0**-100)
    ours, tiny = kmeans(KEY, points, 5), kmeans(KEY, points * size, 5)
    np.testing.assert_array_equal(tiny.assignments, ours.assignments)
    np.testing.assert_allclose(tiny.centroids, np.asarray(ours.centroids) * size, rtol=1e-5)
    np.testing.assert_allclose(tiny.inertia, np.float64(ours.inertia) * np.float64(size) ** 2, rtol=1e-5)


def test_a_mask_is_of_true_and_false_whatever_it_is_held_in():
    points, mask = blobs(), np.arange(200) < 150
    points[150:] = np.nan
    expected = kmeans(KEY, points, 5, mask=mask)
    for kind in (np.float32, np.int64, np.uint8):
        found = kmeans(KEY, points, 5, mask=mask.astype(kind))
        np.testing.assert_array_equal(found.assignments, expected.assignments)
    for wrong in (2 * mask, -1 * mask, 0.5 * mask, np.where(mask, 1, np.nan)):
        with pytest.raises(ValueError, match="other numbers than 0 and 1"):
            kmeans(KEY, points, 5, mask=wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_clusters": 2.0}, "whole number, 1 or more"),
        ({"num_clusters": True}, "whole number, 1 or more"),
        ({"max_iterations": 2.5}, "whole number, 1 or more"),
        ({"tolerance": np.nan}, "tolerance nan"),
        ({"points": blobs().astype(complex)}, "The points are complex"),
        ({"points": blobs().astype(str)}, "The points are <U"),
        ({"points": np.diag([0.0, 1e300, 1.0])}, "Point 1 is NaN or infinite"),
    ],
)
def test_what_is_no_number_is_refused_in_words(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        kmeans(KEY, **{"points": blobs(), "num_clusters": 2} | change)


@pytest.mark.parametrize("kind", [float, bool, str])
def test_labels_that_are_no_whole_numbers_are_refused(kind: type):
    with pytest.raises(ValueError, match="must be whole numbers"):
        kmeans_per_class(KEY, blobs(), np.zeros(200, kind), num_classes=1, clusters_per_class=2)
