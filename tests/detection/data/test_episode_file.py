"""The file of episodes: what is written is read, in part too, and what is wrong is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from fsljax.detection.data.episode_file import (
    DamagedEpisodesError,
    DetectionEpisodes,
    Json,
    read_episodes,
    write_episodes,
)
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
        ({"content": "abd"}, "generated from different data"),
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
        ("{", "is not an episodes file"),
        ("[]", "is not an episodes file"),
        (json.dumps({**stored, "format": 9}), "format 9, but this version of fsljax reads format 1"),
        (
            json.dumps({name: stored[name] for name in stored if name not in ("seed", "digest")}),
            r"damaged \(the seed must be a whole number\)",
        ),
        (json.dumps({**stored, "episodes": [{}] * 4}), "damaged"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=said):
            read_episodes(path)


def changed(stored: Json, place: tuple[str | int, ...], value: object) -> Json:
    """A copy without a digest, as an earlier version wrote, in which one value is another."""
    copy = json.loads(json.dumps({name: part for name, part in stored.items() if name != "digest"}))
    inner = copy
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return copy


def leaves(value: object, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inner:
        yield (*place, name)
        yield from leaves(part, (*place, name))


def test_a_file_without_a_digest_is_read(path):
    stored = json.loads(path.read_text())
    assert stored.pop("digest")
    path.write_text(json.dumps(stored))
    assert len(read_episodes(path, content="abc")) == 4


def test_a_changed_digit_is_told(path):
    text = path.read_text()
    for old, new in (('"seed":3', '"seed":4'), ("[0,1]", "[1,0]"), ("supports", "sapports")):
        assert old in text
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(DamagedEpisodesError, match=r"are damaged \(was changed after it was written"):
            read_episodes(path)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("episodes", 2, "supports", 0, 0, 1), [50, 50, 1, 1], r"episode 2: the box \[50, 50, 1, 1\] has no"),
        (("episodes", 2, "supports", 0, 0, 1), [5, 5, 5, 10], "has no area"),
        (("episodes", 0, "supports", 0, 0, 1), [5, 5, 10, 1e7], "outside its image"),
        (("episodes", 0, "supports", 0, 0, 1), [-50, 5, 10, 10], "outside its image"),
        (("episodes", 0, "supports", 0, 0, 1), [5, 5, 10], "sides of a box: 3, but there must be 4"),
        (("episodes", 0, "supports", 0, 0, 1), [5, 5, 10, 10**400], "outside its image"),
        (("episodes", 0, "queries", 0, 1, 0, 0), 77, "a label is 77; it must be a number below 2"),
        (("episodes", 0, "queries", 0, 1, 0, 0), True, "a label is True"),
        (("episodes", 0, "queries", 0, 1, 0, 1), 2, "an object's marks must be 0 or 1"),
        (("episodes", 0, "classes"), [10**6, 1], "each class must be a number below 3"),
        (("episodes", 0, "classes"), [1, 1], "its classes must differ"),
        (("episodes", 0, "classes"), [1], "classes: 1, but there must be 2"),
        (("kind",), "x", "the kind must be scenes or images"),
        (("queries",), 10**12, "queries must be a whole number"),
        (("queries",), 6, "queries: 4, but there must be 6"),
        (("shots",), 2, "supports of a class: 3, but there must be 2"),
        (("way",), 0, "way must be a whole number from 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_without_a_digest_too(path, place, value, said):
    path.write_text(json.dumps(changed(json.loads(path.read_text()), place, value)))
    with pytest.raises(DamagedEpisodesError, match=said):
        read_episodes(path)


ODD = [None, "", [], {}, -1, 1e30, True, [[[[[[[0]]]]]]], "x" * 1000, 10**400]


@pytest.mark.parametrize("value", ODD, ids=map(str, range(len(ODD))))
def test_any_value_of_another_type_is_told(path, value):
    stored = json.loads(path.read_text())
    stored["episodes"] = stored["episodes"][:1]
    del stored["digest"]
    for place in leaves(stored):
        path.write_text(json.dumps(changed(stored, place, value)))
        try:
            read_episodes(path)
        except UserError:
            continue
        original = stored
        for name in place:
            original = original[name]
        # Another name, or an object's mark, which may be true as well as 1.
        is_name = isinstance(original, str | dict) and type(original) is type(value)
        assert is_name or (place[2] == "queries" and original in (0, 1) and value is True), place


def test_json_that_nests_too_deeply_is_told(path):
    for content in ("[" * 100_000, '{"format": 1, "kind": ' + "[" * 900 + "]" * 900 + "}"):
        path.write_text(content)
        with pytest.raises(UserError, match="episodes"):
            read_episodes(path)
