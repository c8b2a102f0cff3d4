"""The map of embeddings."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fsljax.reporting.embedding_map import HEIGHT, THUMB, WIDTH, Clusters, draw_map, subsample


def test_points_are_thinned_out_evenly_and_repeatably():
    labels = np.repeat(np.arange(50), 30)
    chosen = subsample(labels, max_points=200, max_classes=20)
    classes, counts = np.unique(labels[chosen], return_counts=True)
    assert len(classes) == 20
    assert (counts == 10).all()
    assert len(np.unique(chosen)) == len(chosen)
    np.testing.assert_array_equal(chosen, subsample(labels, max_points=200, max_classes=20))
    np.testing.assert_array_equal(subsample(labels[:60]), np.arange(60))
    assert len(subsample(labels, max_points=5, max_classes=20)) == 20


def test_every_class_has_its_points_and_an_example_inside_the_drawing():
    generator = np.random.default_rng(0)
    labels = np.repeat([3, 5, 6], 8)
    images = np.zeros((24, 6, 6, 1), np.uint8)
    images[np.arange(24), labels % 6] = 255
    embeddings = np.eye(8)[labels] * 9 + generator.normal(size=(24, 8))
    classes, drawings = draw_map(embeddings, labels, [f"name{i}" for i in range(8)], images)
    assert drawings
    assert [c.name for c in classes] == ["name3", "name5", "name6"]
    assert all(len(c.clusters) == 1 and c.clusters[0].path.count("M") == 8 for c in classes)
    assert not any(c.clusters[0].centroid or c.clusters[0].hollow for c in classes)
    assert len({c.image for c in classes}) == 3
    assert len({(c.colour, c.clusters[0].marker) for c in classes}) == 3
    for c in classes:
        for x, y in (c.centre, c.thumb):
            assert 0 <= x <= WIDTH and 0 <= y <= HEIGHT
    thumbs = np.array([c.thumb for c in classes])
    apart = np.abs(thumbs[:, None] - thumbs).max(-1)
    assert (apart[~np.eye(3, dtype=bool)] >= THUMB).all()


def test_classes_beyond_the_colours_differ_by_shape():
    labels = np.arange(20)
    images = np.full((20, 4, 4, 3), 200, np.uint8)
    classes, drawings = draw_map(np.eye(20), labels, list(map(str, labels)), images)
    assert not drawings
    assert len({(c.colour, c.clusters[0].marker) for c in classes}) == 20


def test_the_clusters_of_a_class_differ_by_shape_and_stand_with_their_points():
    generator = np.random.default_rng(0)
    centroids = 20 * generator.normal(size=(3, 9, 6))
    counts = np.zeros((3, 9), int)
    counts[0, :9], counts[1, [0, 2]] = 5, 5
    centroids[counts == 0] = np.nan
    labels = np.repeat([0, 1], [45, 10])
    own = np.concatenate([np.repeat(np.arange(9), 5), np.repeat([0, 2], 5)])
    embeddings = centroids[labels, own] + 0.1 * generator.normal(size=(55, 6))
    images = np.full((55, 4, 4, 3), 200, np.uint8)
    clusters = Clusters(centroids, counts)
    np.testing.assert_array_equal(clusters.nearest(embeddings, labels), own)
    classes, _ = draw_map(embeddings, labels, ["a", "b", "c"], images, clusters)
    assert [len(c.clusters) for c in classes] == [9, 2]
    for c in classes:
        assert all(
            cluster.path.count("M") == 5 and cluster.centroid.count("M") == 1 for cluster in c.clusters
        )
    first = classes[0].clusters
    assert len({(cluster.marker, cluster.hollow) for cluster in first}) == 8
    assert [cluster.hollow for cluster in first] == [False] * 4 + [True] * 4 + [False]
    squares, of_square = (
        [float(x) + (1.8 * r) / 2 for x in re.findall(r"M([\d.]+),", path)]
        for path, r in ((first[1].path, 4.2), (first[1].centroid, 8.5))
    )
    assert min(squares) - 40 < of_square[0] < max(squares) + 40


def test_a_cluster_without_points_is_marked_and_a_class_without_clusters_drawn():
    clusters = Clusters(np.array([[[0.0, 0], [9, 9]], [[5, 5], [5, 5]]]), np.array([[3, 2], [0, 0]]))
    embeddings, labels = np.array([[0.0, 1], [1, 0], [5, 5], [5, 4], [4, 5]]), np.array([0, 0, 1, 1, 1])
    classes, _ = draw_map(embeddings, labels, ["a", "b"], np.full((5, 4, 4, 3), 200, np.uint8), clusters)
    assert [(c.path.count("M"), c.centroid.count("M")) for c in classes[0].clusters] == [(2, 1), (0, 1)]
    assert [(c.path.count("M"), c.centroid) for c in classes[1].clusters] == [(3, "")]


def test_clusters_of_contradictory_shapes_are_refused():
    with pytest.raises(ValueError, match=r"Centroids \[2, 3, 4\] and counts \[2, 4\]"):
        Clusters(np.zeros((2, 3, 4)), np.zeros((2, 4)))
