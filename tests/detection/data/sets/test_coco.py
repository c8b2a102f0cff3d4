"""COCO's JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fsljax.detection.data.sets import coco
from fsljax.errors import UserError

from .annotated_folder import MARKED, SPLITS, coco_of, pixels, write_coco


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_coco(tmp_path / "coco")


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_is_read(folder, split):
    read = coco.read_folder(folder, split)
    assert read.ids == tuple(SPLITS[split])
    assert read.class_names == ("dog", "bus", "cat")  # by the categories' ids
    for row, name in enumerate(SPLITS[split]):
        objects = MARKED[name].objects
        assert read.boxes[row].tolist() == [list(box) for _, box, _ in objects]
        assert [read.class_names[label] for label in read.labels[row]] == [kind for kind, _, _ in objects]
        assert read.difficult[row].tolist() == [difficult for _, _, difficult in objects]
        np.testing.assert_array_equal(read.picture(row), pixels(MARKED[name]))
    assert coco.read_folder(folder, split, limit=1).ids == read.ids[:1]


def rewrite(folder: Path, **changes) -> None:
    (folder / "annotations/instances_train.json").write_text(json.dumps({**coco_of("train"), **changes}))


def test_what_is_wrong_is_told(folder):
    with pytest.raises(UserError, match=r"no split 'test', only train, val\."):
        coco.read_folder(folder, "test")
    with pytest.raises(UserError, match=r"2 of 2 images are missing, first a1\.png\. Looked in .*elsewhere"):
        coco.read_folder(folder, "train", images=folder / "elsewhere")
    good = coco_of("train")["annotations"]
    for wrong, said in (
        ({"bbox": [0, 0, 61, 10]}, r"a1\.png in .* leaves the image"),
        ({"bbox": [0, 0, 0, 10]}, "no area"),
        ({"bbox": [0, 0, float("nan"), 10]}, "no finite number"),
        ({"category_id": 1}, "is of category 1, which it lacks"),
        ({"image_id": 99}, "is of image 99, which it lacks"),
        (
            {"bbox": None},
            r"annotations\[0\] of .*train\.json \(id 0\) has bbox None; it must be four numbers",
        ),
    ):
        rewrite(folder, annotations=[{**good[0], **wrong}, good[1]])
        with pytest.raises(UserError, match=said):
            coco.read_folder(folder, "train")
    (folder / "annotations/instances_train.json").write_text("{")
    with pytest.raises(UserError, match=r"instances_train\.json is not valid JSON"):
        coco.read_folder(folder, "train")


def test_bad_boxes_can_be_dropped_with_a_note(folder):
    good = coco_of("train")["annotations"]
    rewrite(folder, annotations=[{**good[0], "bbox": [5, 5, 0, 9]}, good[1]])
    read = coco.read_folder(folder, "train", drop_bad_boxes=True)
    assert [len(boxes) for boxes in read.boxes] == [1, 0]
    assert read.class_names[read.labels[0][0]] == "dog" and read.difficult[0].tolist() == [True]
    assert len(read.notes) == 1 and "left out: 1 (a1.png" in read.notes[0]
