"""Embeddings in two dimensions."""

from __future__ import annotations

import numpy as np
import pytest

from fsljax.reporting.projection import principal_components, tsne


def clusters(classes: int = 6, each: int = 15, dim: int = 16) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    centres = 5 * generator.normal(size=(classes, dim))
    labels = np.repeat(np.arange(classes), each)
    return centres[labels] + generator.normal(size=(len(labels), dim)), labels


def test_principal_components_are_eigenvectors_of_the_covariance():
    points = np.random.default_rng(0).normal(size=(40, 5)) @ np.diag([5, 3, 1, 0.5, 0.1]) + 100
    ours = principal_components(points)
    values = np.linalg.eigvalsh(np.cov(points.T))[::-1]
    np.testing.assert_allclose(np.cov(ours.T), np.diag(values[:2]), atol=1e-9)


def test_missing_directions_are_zero():
    np.testing.assert_array_equal(principal_components(np.ones((3, 1)))[:, 1], 0)


def test_neighbours_on_the_map_are_of_the_same_class():
    points, labels = clusters()
    layout = tsne(points)
    distances = ((layout[:, None] - layout) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(1)] == labels).mean() == 1
    shuffled = np.random.default_rng(1).permutation(labels)
    assert (shuffled[distances.argmin(1)] == shuffled).mean() < 0.5


def test_the_same_points_give_the_same_map():
    points, _ = clusters(each=5)
    np.testing.assert_array_equal(tsne(points), tsne(points))


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scale_and_offset_of_the_embeddings_do_not_matter(scale: float):
    points, labels = clusters()
    layout = tsne(scale * (points + 10))
    distances = ((layout[:, None] - layout) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(1)] == labels).all()


@pytest.mark.parametrize(
    "points",
    [np.zeros((1, 4)), np.eye(3), np.zeros((30, 4)), np.repeat(np.eye(4), 5, axis=0), np.ones((6, 1))],
    ids=["one", "three", "all equal", "coinciding", "one dimension"],
)
def test_odd_points_give_finite_maps(points: np.ndarray):
    layout = tsne(points)
    assert layout.shape == (len(points), 2)
    assert np.isfinite(layout).all()
