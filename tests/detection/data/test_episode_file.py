"""The file of episodes: what is written is read, in part too, and what is wrong is told."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from fsljax.detection.data.episode_file import DetectionEpisodes, read_episodes, write_episodes
from fsljax.detection.data.structures import GroundTruth
from fsljax.errors import UserError


def boxes(random: np.random.Generator, *shape: int) -> np.ndarray:
    corners = random.integers(0, 5_000, (*shape, 2)) / 100
    return np.concatenate([corners, corners + random.integers(100, 5_000, (*shape, 2)) / 100], -1).astype(
        np.float32
    )


@pytest.fixture(params=["scenes", "images"])
def episodes(request) -> DetectionEpisodes:
    """Four 2-way episodes of 3 shots and 2 queries a class, with 1 to 3 truths a query."""
    random = np.random.default_rng(0)
    mask = np.arange(3) < random.integers(1, 4, (4, 4, 1))
    mask[0, 0] = True
    keys = random.integers(0, 2**32, (4, 10, 2), np.uint32)
    ids = np.array([[f"image {number} of {row}" for number in range(10)] for row in range(4)])
    sources = keys if request.param == "scenes" else ids
    return DetectionEpisodes(
        kind=request.param,
        seed=3,
        content="abc",
        options={"size": 128} if request.param == "scenes" else {},
        class_names=("a", "b", "ç"),
        classes=np.array([[0, 1], [2, 0], [1, 2], [0, 2]], np.int32),
        support=sources[:, :6].reshape(4, 2, 3, *sources.shape[2:]),
        support_boxes=boxes(random, 4, 2, 3),
        query=sources[:, 6:],
        ground_truth=GroundTruth(
            boxes(random, 4, 4, 3) * mask[..., None],
            (random.integers(0, 2, (4, 4, 3)) * mask).astype(np.int32),
            mask,
            random.random((4, 4, 3)) < mask * 0.3,
        ),
    )


@pytest.fixture
def path(episodes: DetectionEpisodes, tmp_path: Path) -> Path:
    write_episodes(tmp_path / "new" / "episodes.json", episodes)
    return tmp_path / "new" / "episodes.json"


def test_what_is_written_is_read(episodes, path):
    read = read_episodes(path, content="abc")
    assert (len(read), read.way, read.shots) == (4, 2, 3)
    for field in fields(DetectionEpisodes):
        written = getattr(episodes, field.name)
        if field.name == "ground_truth":
            for part, expected in zip(read.ground_truth[:4], written[:4], strict=True):
                np.testing.assert_array_equal(part, expected)
                assert part.dtype.kind == expected.dtype.kind
        elif isinstance(written, np.ndarray):
            np.testing.assert_array_equal(getattr(read, field.name), written, err_msg=field.name)
            assert getattr(read, field.name).dtype.kind == written.dtype.kind
        else:
            assert getattr(read, field.name) == written


def test_first_episodes_and_first_supports_can_be_read_alone(episodes, path):
    read = read_episodes(path, count=2, shots=1)
    np.testing.assert_array_equal(read.support, episodes.support[:2, :, :1])
    np.testing.assert_array_equal(read.support_boxes, episodes.support_boxes[:2, :, :1])
    np.testing.assert_array_equal(read.query, episodes.query[:2])
    assert len(read) == 2 and read.shots == 1


def test_a_file_is_written_whole_or_not_at_all(episodes, path):
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_episodes(path, replace(episodes, options={"size": object()}))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["episodes.json"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"count": 5}, "holds 4 episodes; 5 were asked for"),
        ({"count": 0}, "holds 4 episodes; 0 were asked for"),
        ({"shots": 10}, "holds 3 supports of a class; 10 were asked for"),
        ({"content": "abd"}, "made of other data"),
    ],
)
def test_what_the_file_does_not_hold_is_refused(path, asked, said):
    with pytest.raises(UserError, match=said):
        read_episodes(path, **asked)


def test_files_that_hold_no_episodes_are_told_by_name(path, tmp_path):
    with pytest.raises(UserError, match=r"missing\.json cannot be read: No such file"):
        read_episodes(tmp_path / "missing.json")
    stored = json.loads(path.read_text())
    for content, said in (
        ("{", "is no file of episodes"),
        ("[]", "is no file of episodes"),
        (json.dumps({**stored, "format": 9}), "format 9, but this version of fsljax reads format 1"),
        (
            json.dumps({name: stored[name] for name in stored if name != "seed"}),
            r"damaged \(KeyError: 'seed'",
        ),
        (json.dumps({**stored, "episodes": [{}] * 4}), "damaged"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=said):
            read_episodes(path)
