"""Episodes of a data set's images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fsljax.detection.data.episode_file import DetectionEpisodes, read_episodes, write_episodes
from fsljax.detection.data.photograph_episodes import make_episodes
from fsljax.detection.data.set_operations import collect, one_image
from fsljax.detection.data.structures import DetectionSet
from fsljax.errors import UserError

NAMES = ("a", "b", "c", "d", "rare")
SHAPE = {"way": 3, "shots": 2, "queries_per_class": 3}


@pytest.fixture(scope="module")
def data() -> DetectionSet:
    """Sixty images of one or two of four classes; three more of a fifth class, and difficult ones of it."""
    random = np.random.default_rng(0)
    annotated = []
    for number in range(80):
        kinds = random.choice(NAMES[:4], 2, replace=False)[: 1 + number % 2].tolist()
        if number >= 60:
            kinds = ["rare"]
        corners = random.integers(0, 50, (len(kinds), 2))
        boxes = np.concatenate([corners, corners + random.integers(5, 50, (len(kinds), 2))], axis=1).tolist()
        annotated.append(
            one_image(np.zeros(0), f"i{number}", "", (100, 100), boxes, kinds, [number >= 63] * len(kinds))
        )
    return collect(annotated, NAMES)


@pytest.fixture(scope="module")
def episodes(data: DetectionSet) -> DetectionEpisodes:
    return make_episodes(data, count=20, seed=1, **SHAPE)


def test_no_image_comes_twice_and_each_holds_its_class(data, episodes):
    for number in range(20):
        classes = episodes.classes[number]
        assert len(set(classes)) == 3 and 4 not in classes
        used = [*episodes.support[number].reshape(-1), *episodes.query[number]]
        assert len(set(used)) == len(used) == 15
        for label, ids in enumerate(episodes.support[number]):
            for place, identity in enumerate(ids):
                row = data.ids.index(identity)
                of_class = data.boxes[row][data.labels[row] == classes[label]].tolist()
                assert episodes.support_boxes[number, label, place].tolist() in of_class
        for place, identity in enumerate(episodes.query[number]):
            row, mask = data.ids.index(identity), episodes.ground_truth.mask[number, place]
            of_episode = np.isin(data.labels[row], classes)
            np.testing.assert_array_equal(
                episodes.ground_truth.boxes[number, place][mask], data.boxes[row][of_episode]
            )
            labels = classes[episodes.ground_truth.labels[number, place][mask]]
            np.testing.assert_array_equal(labels, data.labels[row][of_episode])
            assert classes[place // 3] in labels


def test_the_same_from_the_same_seed_in_any_number_and_from_a_file(data, episodes, tmp_path: Path):
    fewer = make_episodes(data, count=3, seed=1, **SHAPE)
    np.testing.assert_array_equal(fewer.query, episodes.query[:3])
    assert (make_episodes(data, count=3, seed=2, **SHAPE).query != fewer.query).any()
    write_episodes(tmp_path / "episodes.json", episodes)
    read = read_episodes(tmp_path / "episodes.json", content=data.fingerprint())
    for field in ("support", "support_boxes", "query"):
        np.testing.assert_array_equal(getattr(read, field), getattr(episodes, field))
    for part, expected in zip(read.ground_truth[:4], episodes.ground_truth[:4], strict=True):
        np.testing.assert_array_equal(part, expected)


def test_difficult_objects_are_no_supports(data):
    found = make_episodes(data, classes=["a", "rare"], way=2, shots=1, queries_per_class=2, count=30)
    assert not set(found.support.reshape(-1)) & {f"i{number}" for number in range(63, 80)}


def test_fewer_images_than_an_episode_needs_are_told(data):
    with pytest.raises(
        UserError, match=r"needs 5 images \(2 supports and 3 queries\) of each of 5 classes, but only 4"
    ):
        make_episodes(data, **{**SHAPE, "way": 5})
    with pytest.raises(UserError, match="no class 'horse'"):
        make_episodes(data, classes=["horse"])


def test_classes_that_share_their_images_are_told():
    boxes = [[0, 0, 5, 5], [1, 1, 9, 9]]
    both = [one_image(np.zeros(0), f"i{n}", "", (10, 10), boxes, ["a", "b"], [False] * 2) for n in range(6)]
    shared = collect(both, ("a", "b"))
    assert len(make_episodes(shared, way=2, shots=1, queries_per_class=2, count=2)) == 2
    with pytest.raises(UserError, match="None of 100 draws of 2 classes gave 4 images per class"):
        make_episodes(shared, way=2, shots=2, queries_per_class=2)
