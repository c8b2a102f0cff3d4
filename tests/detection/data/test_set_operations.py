"""What a detection data set refuses, and what can be done with one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsljax.detection.data.set_operations import collect, join, one_image, take_classes, take_images
from fsljax.detection.data.structures import DetectionSet
from fsljax.errors import UserError

NAMES = ("cat", "dog", "bus")


def one(name: str, *objects: tuple[str, list[float]], difficult: bool = False) -> DetectionSet:
    image = np.full((20, 30, 3), len(name), np.uint8)
    boxes, kinds = [box for _, box in objects], [kind for kind, _ in objects]
    return one_image(image, name, f"{name}.xml", (20, 30), boxes, kinds, [difficult] * len(boxes))


@pytest.fixture
def data() -> DetectionSet:
    return collect(
        [
            one("a", ("cat", [0, 0, 5, 5]), ("dog", [1, 2, 3, 4])),
            one("b"),
            one("c", ("bus", [2, 2, 20, 30]), difficult=True),
            one("d", ("dog", [5, 5, 9, 9])),
        ],
        NAMES,
    )


def labels_of(data: DetectionSet) -> list[list[str]]:
    return [[data.class_names[label] for label in labels] for labels in data.labels]


def test_images_without_boxes_are_background(data):
    assert len(data) == 4 and data.most_boxes == 2 and data.num_classes == 3
    assert data.boxes[1].shape == (0, 4) and data.labels[1].shape == (0,)
    assert labels_of(data) == [["cat", "dog"], [], ["bus"], ["dog"]]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (one("e", ("cat", [0, 0, 21, 5])), r"Box 0 of e\.xml.* leaves the image"),
        (one("e", ("cat", [0, 0, 5, 5]), ("cat", [-2, 0, 5, 5])), r"Box 1 of e\.xml.* leaves the image"),
        (one("e", ("cat", [3, 3, 3, 5])), "has no area"),
        (one("e", ("cat", [3, float("nan"), 4, 5])), "no finite number"),
        (one("e", ("horse", [0, 0, 5, 5])), r"e\.xml has an object of class 'horse', which is none of the 3"),
    ],
)
def test_bad_objects_are_told_with_their_file(wrong, said):
    with pytest.raises(UserError, match=said):
        collect([one("a"), wrong], NAMES)


def test_an_image_that_comes_twice_is_told():
    with pytest.raises(UserError, match="image a comes twice"):
        collect([one("a"), one("b"), one("a")], NAMES)


def test_classes_can_be_taken(data):
    base, novel = take_classes(data, ["cat", "bus"]), take_classes(data, ["dog"])
    assert base.class_names == ("cat", "bus") and labels_of(base) == [["cat"], [], ["bus"], []]
    assert novel.class_names == ("dog",) and labels_of(novel) == [["dog"], [], [], ["dog"]]
    assert novel.boxes[0].tolist() == [[1, 2, 3, 4]]

    alone = take_classes(data, ["bus", "cat"], others="leave_out")
    assert alone.ids == ("b", "c") and labels_of(alone) == [[], ["bus"]]

    ignored = take_classes(data, ["bus", "cat"], others="difficult")
    assert [d.tolist() for d in ignored.difficult] == [[False, True], [], [True], [True]]
    assert labels_of(ignored)[0][0] == "cat" and len(ignored.boxes[0]) == 2

    with pytest.raises(UserError, match="no class 'horse' among the 3 classes: cat, dog, bus"):
        take_classes(data, ["horse"])
    with pytest.raises(UserError, match="'dog' is named twice"):
        take_classes(data, ["dog", "dog"])


def test_images_can_be_taken_and_joined(data):
    again = join(take_images(data, [2, 0]), take_images(data, [1, 3]))
    assert again.ids == ("c", "a", "b", "d")
    assert labels_of(again) == [["bus"], ["cat", "dog"], [], ["dog"]]
    assert take_images(again, [1, 2, 0, 3]).fingerprint() == data.fingerprint() != again.fingerprint()
    with pytest.raises(UserError, match="image a is in both"):
        join(data, take_images(data, [0]))
    with pytest.raises(UserError, match="classes differ"):
        join(data, take_classes(data, ["dog"]))


def test_the_fingerprint_changes_with_any_truth():
    changed = [
        collect([one("a", ("dog", [0, 0, 5, 5])), one("b")], NAMES),
        collect([one("a", ("cat", [0, 0, 5, 5])), one("b")], NAMES),
        collect([one("a", ("cat", [0, 0, 5, 5]), difficult=True), one("b")], NAMES),
        collect([one("a", ("cat", [0, 0, 5, 6])), one("b")], NAMES),
        collect([one("a"), one("b", ("cat", [0, 0, 5, 5]))], NAMES),
    ]
    assert len({other.fingerprint() for other in changed}) == 5


def test_pictures_are_rgb_as_they_are_stored(tmp_path: Path):
    grey = tmp_path / "grey.png"
    Image.fromarray(np.full((20, 30), 7, np.uint8)).save(grey)
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter when shown
    Image.new("RGB", (30, 20), "white").save(turned, exif=exif)
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(turned.read_bytes()[:200])
    places = {"grey": grey, "turned": turned, "damaged": damaged, "missing": tmp_path / "missing.jpg"}
    data = collect([replace(one(name), images=[path]) for name, path in places.items()], NAMES)
    assert np.asarray(data.picture(0)).tolist() == np.full((20, 30, 3), 7).tolist()
    assert data.picture(1).size == (30, 20)
    for row, name in ((2, "damaged"), (3, "missing")):
        with pytest.raises(UserError, match=f"The image {name} cannot be read"):
            data.picture(row)
    other = collect([replace(one("grey"), images=[grey], sizes=np.array([[30, 20]]))], NAMES)
    with pytest.raises(UserError, match="grey is 30 wide and 20 high, but its annotation says 20 and 30"):
        other.picture(0)
