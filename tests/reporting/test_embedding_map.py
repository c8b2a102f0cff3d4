"""The map of embeddings."""

from __future__ import annotations

import numpy as np

from fsljax.reporting.embedding_map import HEIGHT, THUMB, WIDTH, draw_map, subsample


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
    assert all(c.path.count("M") == 8 for c in classes)
    assert len({c.image for c in classes}) == 3
    assert len({(c.colour, c.marker) for c in classes}) == 3
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
    assert len({(c.colour, c.marker) for c in classes}) == 20
