"""Annotations of LabelMe, VOC and COCO, as they lie on a user's disk."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fsljax.detection.enrolled.annotated import read_annotated
from fsljax.errors import UserError

BOXES = {"one": [[2, 3, 12, 23]], "two": [[5, 5, 15, 15], [0, 10, 20, 30]]}  # y_min, x_min, y_max, x_max


def write_images(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in BOXES:
        Image.new("RGB", (40, 30), "white").save(folder / f"{name}.jpg")


def labelme(name: str, **fields: Any) -> dict[str, Any]:
    shapes = [
        {"label": f"class {number}", "points": [[x1, y1], [x0, y0]], "shape_type": "rectangle"}
        for number, (y0, x0, y1, x1) in enumerate(BOXES[name])
    ]
    size = {"imageHeight": 30, "imageWidth": 40}
    return {
        "version": "5.4",
        "shapes": shapes,
        "imagePath": f"{name}.jpg",
        "imageData": None,
        **size,
        **fields,
    }


def write_labelme(folder: Path) -> Path:
    write_images(folder)
    for name in BOXES:
        (folder / f"{name}.json").write_text(json.dumps(labelme(name)))
    (folder / "settings.json").write_text("{}")
    return folder


def write_voc(folder: Path) -> Path:
    write_images(folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    for name, boxes in BOXES.items():
        objects = "".join(
            f"<object><name>class {number}</name><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
            f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
            for number, (y0, x0, y1, x1) in enumerate(boxes)
        )
        size = "<size><width>40</width><height>30</height></size>"
        (folder / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename>{size}{objects}</annotation>"
        )
    return folder


def coco() -> dict[str, Any]:
    images = [
        {"id": number, "file_name": f"{name}.jpg", "height": 30, "width": 40}
        for number, name in enumerate(BOXES)
    ]
    annotations = [
        {"id": 10 * image + number, "image_id": image, "category_id": number + 1,
         "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}
        for image, boxes in enumerate(BOXES.values())
        for number, (y0, x0, y1, x1) in enumerate(boxes)
    ]  # fmt: skip
    categories = [{"id": number + 1, "name": f"class {number}"} for number in range(2)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(folder: Path) -> Path:
    write_images(folder / "images")
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances_all.json").write_text(json.dumps(coco()))
    return folder


WRITERS = [write_labelme, write_voc, write_coco]


@pytest.mark.parametrize("write", WRITERS)
def test_a_folder_gives_images_boxes_and_labels(write: Callable[[Path], Path], tmp_path: Path):
    read = read_annotated(write(tmp_path))
    assert [Path(image).name for image in read.images] == ["one.jpg", "two.jpg"]  # type: ignore[arg-type]
    for boxes, expected in zip(read.boxes, BOXES.values(), strict=True):
        np.testing.assert_allclose(boxes, expected)
    assert read.labels == ["class 0", "class 0", "class 1"] and read.notes == ()
    few = read_annotated(tmp_path, ["class 1"])
    assert few.labels == ["class 1"] and len(few.images) == 1
    np.testing.assert_allclose(few.boxes[0], [BOXES["two"][1]])


@pytest.mark.parametrize("write", WRITERS)
def test_a_single_file_will_do(write: Callable[[Path], Path], tmp_path: Path):
    folder = write(tmp_path)
    files = [*folder.rglob("two.*ml"), *folder.rglob("two.json"), *folder.rglob("instances_*")]
    read = read_annotated(files[0])
    assert read.labels[-2:] == ["class 0", "class 1"]
    assert read_annotated([files[0]]).labels == read.labels


def test_every_shape_with_an_area_has_a_box(tmp_path: Path):
    write_images(tmp_path)
    shapes = [
        {"label": "a", "points": [[5, 6], [9, 20], [3, 10]], "shape_type": "polygon"},
        {"label": "a", "points": [[20, 15], [23, 19]], "shape_type": "circle"},
        {"label": "a", "points": [[1, 2], [8, 9]]},
        {"label": "dot", "points": [[1, 2]], "shape_type": "point"},
    ]
    (tmp_path / "one.json").write_text(json.dumps(labelme("one", shapes=shapes)))
    read = read_annotated(tmp_path / "one.json")
    np.testing.assert_allclose(read.boxes[0], [[6, 3, 20, 9], [10, 15, 20, 25], [2, 1, 9, 8]])
    assert "LabelMe points and lines, skipped: 1 (one.json)" in read.notes[0]


def test_an_image_within_the_file_is_taken_where_none_is_beside(tmp_path: Path):
    write_images(tmp_path / "elsewhere")
    content = (tmp_path / "elsewhere/one.jpg").read_bytes()
    document = labelme("one", imageData=base64.b64encode(content).decode())
    (tmp_path / "one.json").write_text(json.dumps(document))
    assert read_annotated(tmp_path).images == [content]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is not valid JSON"),
        ("{}", "is in neither LabelMe format"),
        (json.dumps(labelme("one", shapes=[3])), r"shapes\[0\] is 3, not an object"),
        (json.dumps(labelme("one", shapes=[{"label": "", "points": [[1, 2]]}])), "has the label ''"),
        (json.dumps(labelme("one", shapes=[{"label": "a", "points": [[1, None]]}])), "pairs of numbers"),
        (json.dumps(labelme("one", shapes=[])), "has no boxes: annotate some"),
        (json.dumps(labelme("one", imagePath="gone.jpg", imageData="*")), "imageData is damaged"),
        (json.dumps(labelme("one", imageHeight=60)), "is 40 wide and 30 high, but its annotation says"),
        (
            json.dumps(labelme("one", shapes=[{"label": "a", "points": [[1, 2], [90, 9]]}])),
            "extends beyond the image",
        ),
    ],
)
def test_damage_is_told_in_a_sentence(tmp_path: Path, content: str, told: str):
    write_images(tmp_path)
    (tmp_path / "one.json").write_text(content)
    with pytest.raises(UserError, match=told):
        read_annotated(tmp_path / "one.json")


def test_what_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(UserError, match="does not exist"):
        read_annotated(tmp_path / "gone.json")
    with pytest.raises(UserError, match="holds no annotations"):
        read_annotated(tmp_path)
    write_labelme(tmp_path)
    with pytest.raises(UserError, match="no object of the class 'x', only of class 0, class 1"):
        read_annotated(tmp_path, ["x"])
    (tmp_path / "one.jpg").unlink()
    with pytest.raises(UserError, match=r"The image of .*one.json, one.jpg, is not beside it"):
        read_annotated(tmp_path)


def test_annotations_of_two_kinds_are_not_mixed(tmp_path: Path):
    write_voc(tmp_path)
    (tmp_path / "instances_all.json").write_text(json.dumps(coco()))
    with pytest.raises(UserError, match="several annotations of the same images"):
        read_annotated(tmp_path)
    assert len(read_annotated(tmp_path / "Annotations").labels) == 3
