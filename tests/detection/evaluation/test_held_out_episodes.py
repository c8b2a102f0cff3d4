"""Episodes of base classes that are held out in folds, and what episodes that are made look like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fsljax.detection.evaluation import few_shot as few_shot_detection
from fsljax.errors import UserError

from .colours import BASE, NOVEL, make_method, write_colours


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colours(tmp_path_factory.mktemp("colours") / "voc")


def test_a_fold_is_novel_in_episodes_and_in_no_training_image(folder: Path, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(few_shot_detection, "_WRITTEN", 3)
    fold = {"folds": 8, "fold": 7, "fold_images": 8}
    method = make_method(folder, data=fold, way=1, episodes_file="")
    data: Any = method.data
    novel: Any = data.novel_images
    (held,) = novel.data.class_names
    assert held in NOVEL and set(data.class_names) == {*NOVEL, *BASE} - {held}
    episodes = few_shot_detection.episodes_of(method.config, novel)
    assert episodes.way == 1 and episodes.shots == 2 and episodes.query.shape == (2, 2)
    assert not set(np.ravel(episodes.query)) & set(data.train.ids)
    assert all(str(name).startswith(held) for name in np.ravel(episodes.support))
    trained = novel.trained_objects(episodes, [0, 1])
    names = {data.class_names[label] for label in trained.labels[trained.mask]}
    assert names <= set(BASE) and names
    other = make_method(folder, data=fold, way=1, queries=3, episodes_file="")
    assert few_shot_detection.episodes_of(other.config, novel).query.shape == (2, 3)
    assert len(list(tmp_path.glob("*/detection_episodes-*.json"))) == 2


def test_a_fold_of_too_few_images_is_told_before_anything_is_trained(folder: Path):
    with pytest.raises(UserError, match=r"Only 0 base classes are in 17 images or more"):
        make_method(folder, data={"folds": 2, "fold": 0, "fold_images": 17})
    method: Any = make_method(folder, data={"folds": 8, "fold": 7, "fold_images": 8}, episodes_file="")
    with pytest.raises(UserError, match=r"An episode needs 4 images .* of each of 5 classes, but only 1"):
        method.check_test()


def test_more_shots_than_made_supports_are_refused(folder: Path):
    with pytest.raises(UserError, match=r"have 2 supports per class, but 3 were requested .*eval\.supports"):
        make_method(folder, shots=(1, 3), episodes_file="")
    assert make_method(folder, shots=(1, 3), supports=3, episodes_file="").config.eval.supports == 3
