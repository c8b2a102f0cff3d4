"""COCO's JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
        ({"bbox": [0, 0, 61, 10]}, r"a1\.png in .* extends beyond the image"),
        ({"bbox": [0, 0, 0, 10]}, "no area"),
        ({"bbox": [0, 0, float("nan"), 10]}, "not a finite number"),
        ({"category_id": 1}, "refers to category 1, which does not exist"),
        ({"image_id": 99}, "refers to image 99, which does not exist"),
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
    assert len(read.notes) == 1 and "skipped: 1 (a1.png" in read.notes[0]


def write(
    root: Path, images: list[dict], annotations: list[dict], categories: list[dict] | None = None
) -> Path:
    for one in images:
        path = root / "images" / str(one["file_name"]).replace("\\", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48)).save(path)
    named = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"images": images, "annotations": annotations, "categories": categories or named}
    (root / "instances_train.json").write_text(json.dumps(content), encoding="utf-8-sig")
    return root


def image(number: object = 1, name: str = "a.jpg", **more) -> dict:
    return {"id": number, "file_name": name, "width": 64, "height": 48, **more}


def box(
    number: object, of_image: object = 1, category: object = 1, bbox: object = (4, 6, 20, 10), **more
) -> dict:
    return {"id": number, "image_id": of_image, "category_id": category, "bbox": bbox, **more}


@pytest.mark.parametrize(
    ("images", "annotations", "categories", "said"),
    [
        (
            [image(), image(1, "b.jpg")],
            [box(1)],
            None,
            r"images\[0\] and \[1\] of .*json share the id 1 but differ",
        ),
        ([image(), image(2)], [box(1)], None, r"Images 1 and 2 of .*json name the same file, a\.jpg"),
        ([image(), image(2, "./a.jpg")], [box(1)], None, "name the same file"),
        ([image()], [box(1), box(1, category=2)], None, r"annotations\[0\] and \[1\] of .* share the id 1"),
        ([image()], [], [{"id": 1, "name": "cat"}, {"id": "1", "name": "bus"}], r"categories\[0\] and \[1\]"),
        (
            [image(width="64")],
            [],
            None,
            r"images\[0\] of .*train\.json \(id 1\) has width '64'; it must be a whole",
        ),
        ([image(height=1e300)], [], None, r"images\[0\] .* has height 1e\+300"),
        ([image(height=True)], [], None, "has height True"),
        (
            [image()],
            [box(1, bbox=["2", "4", "5", "5"])],
            None,
            r"annotations\[0\] .*has bbox \['2', .*four numbers",
        ),
        ([image()], [box(1, bbox="abcd")], None, "has bbox 'abcd'"),
        ([image()], [box(1, bbox=[1, 2, True, 4])], None, "has bbox"),
        ([image()], [box(1, bbox=[10**400, 2, 3, 4])], None, "has bbox"),
        ([image()], [box(1, iscrowd="0")], None, "has iscrowd '0'; it must be 0 or 1"),
        ([image()], [box(1, ignore=2)], None, "has ignore 2; it must be 0 or 1"),
        ([image()], [box(1, category=None)], None, "has category_id None; it must be a whole number"),
        ([image()], [box(True)], None, "has id True"),
        ([image()], [], [{"id": 1}], r"categories\[0\] .* has no name"),
        ([image()], [], [{"id": 1, "name": 5}], "has name 5; it must be non-empty text"),
        ([image()], [], [{"id": 1, "name": " "}], "has name ' '"),
        ([image()], [], ["cat"], r"categories\[0\] of .* is 'cat', not an object"),
    ],
)
def test_an_entry_that_cannot_be_read_is_named(tmp_path, images, annotations, categories, said):
    with pytest.raises(UserError, match=said):
        coco.read_folder(write(tmp_path, images, annotations, categories), "train")


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../../secret.png", "x/../../secret.png", "..\\secret.png", "C:\\a.png"]
)
def test_files_outside_the_folder_are_not_read(tmp_path, name):
    root = write(tmp_path / "data", [image()], [])
    Image.new("RGB", (64, 48)).save(tmp_path / "secret.png")
    content = json.loads((root / "instances_train.json").read_text("utf-8-sig"))
    content["images"][0]["file_name"] = name
    (root / "instances_train.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"images\[0\] of .*inside the image folder"):
        coco.read_folder(root, "train")


def test_equal_names_in_two_folders_are_two_images(tmp_path):
    images = [image(1, "cam1/0001.jpg"), image(2, "cam2\\0001.jpg"), image(3, "other.jpg")]
    images += [image(4, "cam1/7.jpg"), image(5, "cam1/7.png")]
    read = coco.read_folder(write(tmp_path, images, [box(1, 2)]), "train")
    assert read.ids == ("cam1/0001", "cam2/0001", "other", "cam1/7.jpg", "cam1/7.png")
    assert [len(boxes) for boxes in read.boxes] == [0, 1, 0, 0, 0]
    assert coco.read_folder(tmp_path, "train", limit=1).ids == read.ids[:1]


def test_ids_may_be_written_as_text(tmp_path):
    categories = [{"id": "10", "name": "bus"}, {"id": "9", "name": "cat"}]
    annotations = [box("1", 1, 10), box("x", "b7", 9.0), box(None, "1", "9", [0, 0, 5, 5])]
    root = write(tmp_path, [image("1"), image("b7", "b.jpg")], annotations, categories)
    read = coco.read_folder(root, "train")
    assert read.class_names == ("cat", "bus")  # by their numbers
    assert [labels.tolist() for labels in read.labels] == [[1, 0], [0]]


def test_the_one_side_that_is_given_is_compared(tmp_path):
    with pytest.raises(UserError, match=r"a\.jpg is 48 high, but .*train\.json says 47"):
        coco.read_folder(write(tmp_path, [image(width=None, height=47)], []), "train")


@pytest.mark.parametrize("size", [{"width": None}, {"height": None, "width": None}])
def test_a_size_that_is_not_given_is_the_images(tmp_path, size):
    read = coco.read_folder(write(tmp_path, [{**image(), **size}], [box(1)]), "train")
    assert read.sizes.tolist() == [[48, 64]] and read.notes == ()


def test_what_comes_twice_counts_once_with_a_note(tmp_path):
    images, annotations = [image(), image()], [box(1), box(1, area=3), box(2), box(3, bbox=[0, 0, 5, 5])]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat "}, {"id": 3, "name": "dog"}]
    annotations.append(box(4, category=2, bbox=[1, 1, 5, 5]))
    read = coco.read_folder(write(tmp_path, images, annotations, categories), "train")
    assert read.class_names == ("cat", "dog") and read.labels[0].tolist() == [0, 0, 0]
    begins = (
        "Duplicate entries in ",
        "Categories with the same name in ",
        "Objects with the same class and box",
    )
    assert [note.startswith(begin) for note, begin in zip(read.notes, begins, strict=True)] == [True] * 3
    assert "2 (images[1], annotations[1])" in read.notes[0] and "1 (cat)" in read.notes[1]


def test_numbers_that_are_none_and_deep_nesting_are_told(tmp_path):
    root = write(tmp_path, [image()], [box(1, score=float("nan"))])
    assert len(coco.read_folder(root, "train").boxes[0]) == 1  # what is not used may be
    (root / "instances_train.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"train\.json is not valid JSON: it nests too deeply"):
        coco.read_folder(root, "train")
    for content, said in (("[]", "holds a list"), ('{"images": {}}', "its images are an object, not a list")):
        (root / "instances_train.json").write_text(content)
        with pytest.raises(UserError, match=said):
            coco.read_folder(root, "train")
