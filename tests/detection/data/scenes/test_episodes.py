"""Episodes of scenes: the same again from their file, and refused where they would not be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.detection.data.episode_file import DetectionEpisodes, read_episodes, write_episodes
from fsljax.detection.data.scenes.composition import Drawings, SceneOptions
from fsljax.detection.data.scenes.drawings import SceneDrawings
from fsljax.detection.data.scenes.episodes import content_of, draw_episode, make_episodes
from fsljax.errors import UserError

SHAPE = {"way": 3, "shots": 2, "queries_per_class": 2}
PLAIN = SceneOptions(
    fragments=(0, 0),
    strength=(1.0, 1.0),
    contrast=(1.0, 1.0),
    paper=(0.0, 0.0),
    shading=0.0,
    noise=(0.0, 0.0),
)


@pytest.fixture(scope="module")
def drawings() -> SceneDrawings:
    random = np.random.default_rng(0)
    images = np.zeros((10, 20, 64, 64), np.uint8)
    for image in images.reshape(-1, 64, 64):
        for _ in range(2):
            row, column = random.integers(8, 30, 2)
            high, wide = random.permutation([4, random.integers(10, 26)])
            image[row : row + high, column : column + wide] = 255
    names = tuple(f"c{number}" for number in range(10))
    base, novel = images[:4], images[4:]
    return SceneDrawings(
        Drawings(jnp.asarray(base[:, :15])),
        Drawings(jnp.asarray(base[:, 15:])),
        Drawings(jnp.asarray(novel)),
        names[:4],
        names[4:],
    )


@pytest.fixture(scope="module")
def episodes(drawings: SceneDrawings) -> DetectionEpisodes:
    return make_episodes(drawings, count=6, seed=7, options=PLAIN, **SHAPE)


def test_an_episode_has_the_classes_boxes_and_queries_that_it_says(episodes):
    assert episodes.classes.shape == (6, 3)
    assert episodes.support.shape == (6, 3, 2, 2) and episodes.support_boxes.shape == (6, 3, 2, 4)
    assert episodes.query.shape == (6, 6, 2) and episodes.ground_truth.labels.shape == (6, 6, 6)
    assert all(len(set(classes)) == 3 for classes in episodes.classes.tolist())
    assert len({tuple(classes) for classes in episodes.classes.tolist()}) > 1
    assert episodes.classes.max() < 6
    # Queries of a class lie together and hold it.
    assert (
        episodes.ground_truth.labels[:, :, 0] == np.repeat(np.arange(3), 2)
    ).all() and episodes.ground_truth.mask[:, :, 0].all()
    keys = np.concatenate([episodes.support.reshape(-1, 2), episodes.query.reshape(-1, 2)])
    assert len(np.unique(keys, axis=0)) == len(keys)
    assert not episodes.ground_truth.difficult.any()


def test_the_first_episodes_are_the_same_however_many_there_are(drawings, episodes):
    fewer = make_episodes(drawings, count=2, seed=7, options=PLAIN, **SHAPE)
    for field in ("classes", "support", "support_boxes", "query"):
        np.testing.assert_array_equal(getattr(fewer, field), getattr(episodes, field)[:2])
    for part, expected in zip(fewer.ground_truth[:3], episodes.ground_truth[:3], strict=True):
        np.testing.assert_array_equal(part, expected[:2])
    other = make_episodes(drawings, count=2, seed=8, options=PLAIN, **SHAPE)
    assert (other.query != fewer.query).any()


def test_images_drawn_from_the_file_have_ink_where_the_boxes_are(drawings, episodes, tmp_path: Path):
    path = tmp_path / "episodes.json"
    write_episodes(path, episodes)
    read = read_episodes(path, content=content_of(drawings))
    support, query = draw_episode(drawings, read, 4)
    assert support.shape == (3, 2, 128, 128, 1) and query.shape == (6, 128, 128, 1)
    for image, boxes, mask in zip(
        np.asarray(query)[..., 0], read.ground_truth.boxes[4], read.ground_truth.mask[4], strict=True
    ):
        outside = image.copy()
        for y_min, x_min, y_max, x_max in boxes[mask].astype(int):
            inside = image[y_min:y_max, x_min:x_max] > 0.3
            assert inside[[0, -1]].any(axis=1).all() and inside[:, [0, -1]].any(axis=0).all()
            outside[y_min:y_max, x_min:x_max] = 0
        assert outside.max() <= 0.3
    same_support, query_with_others = draw_episode(drawings, read, 4, distractors=True)
    np.testing.assert_array_equal(same_support, support)
    assert (np.abs(np.asarray(query_with_others - query)).max(axis=(1, 2, 3)) > 0.5).all()


def test_what_would_be_drawn_otherwise_is_refused(drawings, episodes):
    other = drawings._replace(novel=Drawings(drawings.novel.images[:, :, ::-1]))
    with pytest.raises(UserError, match="episode 0 do not match their stored boxes"):
        draw_episode(other, episodes, 0)
    with pytest.raises(UserError, match="options that this version of fsljax does not know"):
        draw_episode(drawings, replace(episodes, options={"colour": 1}), 0)
    with pytest.raises(UserError, match="not generated scenes"):
        draw_episode(drawings, replace(episodes, kind="images"), 0)
    assert content_of(other) != content_of(drawings)


def test_too_few_characters_are_refused(drawings):
    with pytest.raises(UserError, match="needs 7 novel characters, but there are 6"):
        make_episodes(drawings, way=7)
