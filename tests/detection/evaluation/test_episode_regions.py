"""Photographs that come in many episodes are looked at once, and seen as if each time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import pytest

from fsljax.detection.data.novel_photographs import NovelPhotographs
from fsljax.detection.evaluation import few_shot
from fsljax.detection.evaluation.episode_detections import regions_of
from fsljax.detection.evaluation.episode_regions import regions_of_episodes
from fsljax.detection.model.enroll import enroll

from .colours import make_method, write_colours


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colours(tmp_path_factory.mktemp("colours") / "voc")


@pytest.mark.parametrize(("space", "views"), [("embedding", 0), ("features", 1), ("combined", 0)])
def test_regions_are_those_of_each_episode_by_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch, space: str, views: int
):
    method = make_method(folder, enrol={"space": space, "views": views}, episodes=6, supports=2)
    detector = method.trained(method.init(jax.random.key(0)).inference_variables())
    novel: Any = method.data.novel_images
    episodes = few_shot.episodes_of(method.config, novel)
    read: Counter[str] = Counter()
    photographs = NovelPhotographs.photographs

    def counted(self: NovelPhotographs, ids: np.ndarray) -> Any:
        read.update(set(ids.flat))
        return photographs(self, ids)

    expected = []
    for number in range(len(episodes)):
        support, query = novel.images(episodes, [number], False)
        expected.append(regions_of(detector, support, query, novel.images_at_once, views))
    monkeypatch.setattr(NovelPhotographs, "photographs", counted)
    seen = list(
        regions_of_episodes({"": detector}, novel, episodes, distractors=False, views=views, fine_tuned=True)
    )
    assert [one.numbers.tolist() for one in seen] == [[number] for number in range(len(episodes))]
    for one, wanted in zip(seen, expected, strict=True):
        chex.assert_trees_all_close(one.regions[""], wanted, atol=1e-4)
    times = Counter(str(name) for part in (episodes.support, episodes.query) for name in part.flat)
    assert max(times.values()) > 3
    assert max(read.values()) <= 4  # by what it is asked for, and once more where a batch is filled up


def test_the_space_combined_is_of_length_1_and_all_parts(folder: Path):
    method = make_method(folder, enrol={"space": "combined"})
    detector = method.trained(method.init(jax.random.key(0)).inference_variables())
    novel: Any = method.data.novel_images
    episodes = few_shot.episodes_of(method.config, novel)
    (first, *_) = regions_of_episodes(
        {"": detector}, novel, episodes, distractors=False, views=0, fine_tuned=True
    )
    support, queries = first.regions[""]
    assert support.features.shape[-1] == queries.compared.shape[-1] == detector.compared_dim
    assert detector.compared_dim > 64 + 32
    np.testing.assert_allclose(np.linalg.norm(queries.compared, axis=-1), 1.0, rtol=1e-5)
    head = queries.compared[..., :64] * 2  # four parts of length 1
    np.testing.assert_allclose(
        head, queries.features / np.linalg.norm(queries.features, axis=-1, keepdims=True), atol=1e-4
    )


@pytest.mark.parametrize("per_shot", [1, 2, 5])
def test_without_fine_tuning_what_is_left_of_supports_gives_the_same_representatives(
    folder: Path, per_shot: int
):
    options = {"space": "features", "per_shot": per_shot, "overlap": 0.3}
    method = make_method(folder, enrol=options, episodes=2)
    detector = method.trained(method.init(jax.random.key(0)).inference_variables())
    novel: Any = method.data.novel_images
    episodes = few_shot.episodes_of(method.config, novel)
    whole, left = (
        next(
            regions_of_episodes(
                {"": detector}, novel, episodes, distractors=False, views=0, fine_tuned=all_of_them
            )
        )
        for all_of_them in (True, False)
    )
    assert left.regions[""][0].valid.shape[-1] == per_shot
    given = [jax.tree.map(lambda part: part[0], one.regions[""][0]) for one in (whole, left)]
    expected, found = (enroll(one.features, one, method.config.eval.enrol) for one in given)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    chex.assert_trees_all_equal(left.regions[""][1], whole.regions[""][1])
