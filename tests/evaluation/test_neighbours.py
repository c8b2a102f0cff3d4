"""Nearest neighbours against all differences in float64, in clusters tighter than float32 can tell, too."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.distances import float64
from fsljax.evaluation import neighbours
from fsljax.evaluation.retrieval import hierarchy_recovery, nearest_neighbours, retrieve
from fsljax.parallel.devices import ONE

SPREADS = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6]


def clusters(spread: float, *, dim: int = 8, length: float = 1.0, offset: float = 0.0):
    """Two coarse groups at ± length, ten classes of 30 in each, 50 spreads apart."""
    generator = np.random.default_rng(1)
    labels = np.repeat(np.arange(20), 30)
    directions = generator.normal(size=(20, dim))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    groups = np.where(np.arange(20) < 10, -1.0, 1.0)[:, None] * np.eye(dim)[0]
    centres = groups + 50 * spread * directions
    return length * (centres[labels] + spread * generator.normal(size=(600, dim))) + offset, labels


def by_brute_force(queries: np.ndarray, gallery: np.ndarray | None, count: int) -> np.ndarray:
    others = np.float64(queries if gallery is None else gallery)
    distances = ((np.float64(queries)[:, None] - others) ** 2).sum(-1)
    if gallery is None:
        np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, axis=1, kind="stable")[:, :count]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(("length", "offset"), [(1.0, 0.0), (1e4, 0.0), (1.0, 1e4)])
@pytest.mark.parametrize("spread", SPREADS)
def test_neighbours_are_those_of_float64(spread: float, length: float, offset: float, kind: type):
    points, labels = clusters(spread, length=length, offset=offset)
    points = points.astype(kind)
    expected = by_brute_force(points, None, 29)
    np.testing.assert_array_equal(nearest_neighbours(points, count=29), expected)
    gallery = points[::2]
    np.testing.assert_array_equal(
        nearest_neighbours(points[1::7], gallery, count=3), by_brute_force(points[1::7], gallery, 3)
    )
    right = labels[expected] == labels[:, None]
    share = np.cumsum(right, axis=1) / np.arange(1, 30)
    figures = retrieve(points, labels, at=(1,))
    np.testing.assert_allclose(figures.average_precision_at_r, (share * right).mean(axis=1), rtol=1e-12)
    recovered = hierarchy_recovery(points, labels, np.arange(20) // 10)
    np.testing.assert_array_equal(recovered.predictions, labels[expected[:, 0]])
    if kind is np.float64 or (offset == 0 and spread >= 1e-5):
        assert recovered.correct.all()


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e12])
def test_the_unit_of_length_changes_nothing(size: float):
    points = clusters(1e-3)[0].astype(np.float32)
    expected = by_brute_force(points, None, 5)
    scaled = (points * np.float32(2.0 ** np.round(np.log2(size)))).astype(np.float32)
    np.testing.assert_array_equal(nearest_neighbours(scaled, count=5), expected)


@pytest.mark.parametrize("widened", [0, 2**25])
@pytest.mark.parametrize("spread", [1e-1, 1e-5])
def test_queries_far_away_many_equal_points_and_large_galleries(
    spread: float, widened: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(neighbours, "_FLOATS_TO_WIDEN", widened)
    monkeypatch.setattr(neighbours, "_FLOATS_A_BLOCK", 40_000)
    gallery = np.round(clusters(spread)[0] / spread * 2).astype(np.float32)  # many at equal distances
    queries = np.concatenate([gallery[:5] + 1000, gallery[:50], np.repeat(gallery[7:8], 40, axis=0)])
    gallery = np.concatenate([gallery, np.repeat(gallery[7:8], 40, axis=0)])
    np.testing.assert_array_equal(
        nearest_neighbours(queries, gallery, count=30), by_brute_force(queries, gallery, 30)
    )


def test_precision_elsewhere_stays_as_it_was():
    before = jnp.zeros(2).dtype
    for _ in neighbours.in_order(clusters(1e-6)[0], None, 1):
        assert jnp.asarray(np.zeros(2)).dtype == before
    assert not jax.config.jax_enable_x64


def test_the_product_is_not_left_to_the_low_precision_of_accelerators():
    points = np.zeros((30, 5), np.float32)
    with float64():
        search = neighbours._Search(points, 2, 4, ONE)
        rows = points[:3], np.arange(3, dtype=np.int32)
        lowered = search._compiled.lower((search._single, *search._everywhere), rows).as_text()
    assert "precision = [HIGHEST, HIGHEST]" in lowered
