"""Sets of photographs as a detector trains on them, from a small folder in VOC's layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from fsljax import methods
from fsljax.detection.data.photographs import Photographs
from fsljax.errors import UserError
from fsljax.methods import repmet_detector
from fsljax.training.steps import on_device, placed

from .voc_folder import write_voc

OBJECTS = {
    "a": [("cat", (3, 2, 30, 40), 0), ("dog", (31, 11, 60, 30), 0)],
    "b": [("dog", (1, 1, 20, 20), 1)],
    "c": [],
    "d": [("cow", (11, 11, 40, 40), 0), ("cat", (41, 5, 60, 30), 0)],
}  # columns and rows from 1, as VOC counts; 64 wide and 48 high


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def noise(number: int) -> np.ndarray:
        return np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8)

    images = {name: (noise(number), objects) for number, (name, objects) in enumerate(OBJECTS.items())}
    return write_voc(tmp_path_factory.mktemp("voc"), images)


def make_config(folder: Path, **data: Any) -> ConfigDict:
    config = repmet_detector.default_config()
    config.name = "small"
    config.data.update({"name": "voc", "path": str(folder), "channels": 3, "image_size": 32, **data})
    config.network.update({"name": "scene_net"})
    config.pyramid.update({"channels": 8, "extra_levels": 0})
    config.proposals.update({"sizes": (8.0, 12.0, 16.0), "sampled": 16, "before_nms": 16})
    config.proposals.update({"keep": 8, "keep_in_test": 8})
    config.rois.update({"sampled": 8, "output_size": 3})
    config.head.update({"hidden": 16, "dim": 8})
    config.train.update({"images": 2, "flip": True})
    config.eval.update({"images": 4, "episodes": 0, "training_images": True})
    return config


def load(folder: Path, **data: Any) -> Photographs:
    photographs = methods.load(methods.check(make_config(folder, **data)))
    assert isinstance(photographs, Photographs)
    return photographs


def test_boxes_are_scaled_with_their_images(folder: Path):
    data = load(folder)
    assert {"cat", "cow", "dog"} <= set(data.class_names)
    truth = data.index.ground_truth
    np.testing.assert_allclose(truth.boxes[0, 0], [0.5, 1, 20, 15])  # half of VOC's, from pixel 0
    np.testing.assert_array_equal(data.index.sizes, [[24, 32]] * 4)
    np.testing.assert_array_equal(np.asarray(truth.mask).sum(axis=1), [2, 1, 0, 2])
    assert truth.difficult is not None
    np.testing.assert_array_equal(np.asarray(truth.difficult)[:, 0], [False, True, False, False])
    inputs: Any = data.training_data().inputs
    assert inputs.shape == (4, 32, 32, 3)
    np.testing.assert_array_equal(np.asarray(inputs)[[2, 0]], inputs[np.array([2, 0])])
    assert not np.asarray(inputs)[:, 24:].any()


def test_objects_of_other_classes_are_difficult_in_training_and_forgotten_in_tests(folder: Path):
    data = load(folder, novel=("cow",))
    assert "cow" not in data.class_names
    truth = data.index.ground_truth
    assert truth.difficult is not None
    np.testing.assert_array_equal(np.asarray(truth.difficult)[3], [True, False])
    test = next(data.test_images(4, 0))
    np.testing.assert_array_equal(np.asarray(test.ground_truth.mask).sum(axis=1), [2, 1, 0, 1])


def test_classes_both_base_and_novel_are_refused(folder: Path):
    with pytest.raises(UserError, match=r"in config.data.base and in config.data.novel"):
        load(folder, base=("cat", "dog"), novel=("cat",))


def test_the_years_of_a_devkit_are_joined(folder: Path, tmp_path: Path):
    for year in (2007, 2012):
        home = tmp_path / f"VOC{year}"
        shutil.copytree(folder, home)
        for split in ("train", "val"):
            (home / f"ImageSets/Main/{split}.txt").write_text("a\nb\n" if year == 2007 else "c\n")
    assert load(tmp_path).train.ids == ("a", "b", "c")
    assert load(tmp_path, years=(2012,)).train.ids == ("c",)


def test_more_images_a_step_than_there_are_is_told_in_a_sentence(folder: Path):
    data = load(folder)
    key = jax.random.key(0)
    assert data.draw(key, key, 0, data.index, 4).rows.shape == (4,)
    with pytest.raises(UserError, match=r"takes 5 images \(config.train.images\), but only 4 are there"):
        jax.jit(lambda step: data.draw(key, key, step, data.index, 5).rows)(0)


def test_a_missing_path_is_told_of(folder: Path):
    with pytest.raises(UserError, match=r"config\.data\.path"):
        load(folder, name="coco", path="")


def test_a_set_without_objects_is_refused_before_training(folder: Path, tmp_path: Path):
    root = tmp_path / "voc"
    shutil.copytree(folder, root)
    for split, said in (
        ("train", "nothing to learn"),
        ("val", "None of the first 1 images.*nothing to measure"),
    ):
        lists = root / f"ImageSets/Main/{split}.txt"
        before = lists.read_text()
        for unannotated in ("c\n", "b\n"):  # no object; a difficult one alone
            lists.write_text(unannotated)
            with pytest.raises(UserError, match=said):
                methods.build(methods.check(make_config(root)), load(root))
        lists.write_text(before)
    (root / "ImageSets/Main/val.txt").write_text("c\na\n")
    config = methods.check(make_config(root))
    assert methods.build(config, load(root))
    few = make_config(root)
    few.eval.images = 1
    with pytest.raises(UserError, match=r"first 1 images of the split 'val'.*config\.eval\.images"):
        methods.build(methods.check(few), load(root))


def test_half_of_the_images_are_mirrored_with_their_boxes(folder: Path):
    config = make_config(folder)
    method: Any = methods.build(methods.check(config), load(folder))
    data = placed(method.training_data({}), 1.0)
    state = jax.jit(method.init)(jax.random.key(0))
    batch = method.draw(state, data.index)
    plain = np.asarray(data.inputs[batch.rows], np.float32) / 255
    mirrored = 0
    for key in jax.random.split(jax.random.key(0), 8):
        images, truth, *_ = method.data.augmented(key, batch, data.inputs[batch.rows])
        for place in range(2):
            same = np.allclose(images[place], plain[place], atol=1e-5)
            mirrored += not same
            boxes = np.asarray(batch.ground_truth.boxes[place])[np.asarray(batch.ground_truth.mask[place])]
            if not same:
                np.testing.assert_allclose(images[place][:, :32], plain[place][:, 31::-1], atol=1e-5)
                boxes = np.stack([boxes[:, 0], 32 - boxes[:, 3], boxes[:, 2], 32 - boxes[:, 1]], axis=1)
            changed = np.asarray(truth.boxes[place])[np.asarray(truth.mask[place])]
            np.testing.assert_allclose(changed, boxes, atol=1e-5)
    assert 0 < mirrored < 16


def test_a_step_and_an_evaluation_run(folder: Path):
    method: Any = methods.build(methods.check(make_config(folder)), load(folder))
    data = placed(method.training_data({}), 1.0)
    state = jax.jit(method.init)(jax.random.key(0))
    state, figures = jax.jit(on_device(method))(state, data)
    assert all(np.isfinite(value) for value in figures.values())
    evaluation = method.evaluate(state.inference_variables())
    assert list(evaluation.test) == ["base", "training_images"]
    assert evaluation.test["base"]["examples"] == 4
