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
        (one("e", ("cat", [0, 0, 21, 5])), r"Box 0 of e\.xml.* extends beyond the image"),
        (
            one("e", ("cat", [0, 0, 5, 5]), ("cat", [-2, 0, 5, 5])),
            r"Box 1 of e\.xml.* extends beyond the image",
        ),
        (one("e", ("cat", [3, 3, 3, 5])), "has no area"),
        (one("e", ("cat", [3, float("nan"), 4, 5])), "not a finite number"),
        (
            one("e", ("horse", [0, 0, 5, 5])),
            r"e\.xml has an object of class 'horse', which is not one of the 3",
        ),
    ],
)
def test_bad_objects_are_told_with_their_file(wrong, said):
    with pytest.raises(UserError, match=said):
        collect([one("a"), wrong], NAMES)


def test_an_image_that_comes_twice_is_told():
    with pytest.raises(UserError, match="image a is listed twice"):
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
    with pytest.raises(UserError, match="different classes cannot be combined"):
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


def test_boxes_that_leave_their_image_are_cut(data):
    sides = [one("e", ("cat", [-0.5, 0, 5, 30.9])), one("f", ("dog", [0, 0, 20.005, 30]))]
    read = collect(sides, NAMES)
    assert [boxes.tolist() for boxes in read.boxes] == [[[0, 0, 5, 30]], [[0, 0, 20, 30]]]
    assert read.notes == ("Boxes beyond the border of their image, by up to 0.9 pixels, clipped: 1 (e.xml).",)
    far = one("e", ("cat", [0, 0, 5, 60]), ("dog", [-9, 0, 5, 5]), ("bus", [5, 31, 9, 40]))
    read = collect([far, one("g", ("cat", [0, 0, 0, 5]))], NAMES, drop_bad_boxes=True)
    assert read.boxes[0].tolist() == [[0, 0, 5, 30], [0, 0, 5, 5]] and labels_of(read) == [["cat", "dog"], []]
    assert [note.split(":")[1] for note in read.notes] == [" 2 (e.xml, g.xml).", " 2 (e.xml, e.xml)."]


@pytest.mark.parametrize("drop", [False, True])
def test_fractions_are_refused(drop):
    fractions = one("e", ("cat", [0.1, 0.2, 0.5, 0.6]))
    with pytest.raises(UserError, match=r"e\.xml.* fractions"):
        collect([fractions, one("f", ("cat", [0, 0, 1, 1]))], NAMES, drop_bad_boxes=drop)
    beside = [one("g", ("cat", [0, 0, 1, 1]), ("dog", [2, 2, 9, 9])), fractions]
    if drop:
        assert [len(boxes) for boxes in collect(beside, NAMES, drop_bad_boxes=True).boxes] == [2, 0]
    else:
        with pytest.raises(UserError, match=r"Box 0 of e\.xml, \[0\.1, 0\.2, 0\.5, 0\.6\], ends within"):
            collect(beside, NAMES)


def test_huge_numbers_are_no_boxes():
    with pytest.raises(UserError, match="not a finite number"):
        collect([one("e", ("cat", [0, 0, 5, 1e300]))], NAMES)


def test_an_object_that_comes_twice_counts_once():
    twice = one("e", ("cat", [0, 0, 5, 5]), ("dog", [0, 0, 5, 5]), ("cat", [0, 0, 5, 5]))
    read = collect([twice], NAMES)
    assert labels_of(read) == [["cat", "dog"]] and len(read.boxes[0]) == 2
    assert read.notes == (
        "Objects with the same class and box as another in their image, counted once: 1 (e.xml).",
    )


def test_names_that_look_alike_are_told():
    for names in (("cat", "Cat"), ("e\u0301", "\xe9"), ("traffic light", "trafficlight")):
        assert names[0] in " ".join(collect([one("a")], names).notes)
    assert not collect([one("a")], NAMES).notes


def test_crowds_stay_with_their_boxes(data):
    image = np.zeros((20, 30, 3), np.uint8)
    boxes = [[0, 0, 5, 5], [1, 1, 9, 9], [2, 2, 9, 9]]
    crowd = one_image(image, "z", "z", (20, 30), boxes, ["dog", "cat", "bus"], [0, 0, 1], [0, 1, 0])
    read = collect([crowd], NAMES)
    assert read.difficult[0].tolist() == [False, True, True] and read.crowd[0].tolist() == [
        False,
        True,
        False,
    ]
    assert data.crowd is None and take_classes(data, ["dog"]).crowd is None
    assert [part.tolist() for part in take_classes(read, ["cat", "bus"]).crowd] == [[True, False]]
    both = join(data, read)
    assert [len(part) for part in both.crowd] == [2, 0, 1, 1, 3] and both.crowd[4].any()
    assert take_images(both, [4]).crowd[0].tolist() == [False, True, False]


def turned(path: Path, orientation: int, size: tuple[int, int] = (30, 20)) -> Path:
    """A file that is seen as `size`, wide and high, white in its upper left quarter."""
    seen = np.zeros((size[1], size[0], 3), np.uint8)
    seen[: size[1] // 2, : size[0] // 2] = 255
    stored = Image.fromarray(seen)
    if orientation in UPRIGHT_AGAIN:
        stored = stored.transpose(UPRIGHT_AGAIN[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    if path.suffix == ".tif":
        stored.save(path, tiffinfo={0x0112: orientation})
    else:
        stored.save(path, exif=exif)
    return path


UPRIGHT_AGAIN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(tmp_path: Path, kind, orientation):
    path = turned(tmp_path / f"a.{kind}", orientation)
    data = collect([replace(one("a"), images=[path])], NAMES)
    pixels = np.asarray(data.picture(0))
    assert pixels.shape == (20, 30, 3)
    assert pixels[1:9, 1:14].min() > 200 and pixels[:, 17:].max() < 50 and pixels[12:].max() < 50
    # A quarter of a turn shows in the size.
    assert [("EXIF" in note, "1 (a." in note) for note in data.notes] == [(True, True)] * (
        1 < orientation < 5
    )


@pytest.mark.parametrize("kind", ["jpg", "tif"])
def test_the_size_before_turning_is_refused_with_a_word_on_exif(tmp_path: Path, kind):
    path = turned(tmp_path / f"a.{kind}", 6, (20, 30))
    with pytest.raises(
        UserError, match=r"a\.\w+ is rotated by its EXIF.*20 wide and 30 high.* 30 and 20.*exiftool"
    ):
        collect([replace(one("a"), images=[path])], NAMES)
    unnoticed = replace(collect([one("a")], NAMES), images=[path])
    with pytest.raises(UserError, match=r"a is rotated by its EXIF|a is 20 wide and 30 high"):
        unnoticed.picture(0)
    square = turned(tmp_path / "b.jpg", 8, (20, 20))
    data = collect([replace(one("b"), images=[square], sizes=np.array([[20, 20]]))], NAMES)
    assert len(data.notes) == 1 and "1 (b.jpg)" in data.notes[0]


def test_pictures_are_rgb_and_errors_name_them(tmp_path: Path):
    grey = tmp_path / "grey.png"
    Image.fromarray(np.full((20, 30), 7, np.uint8)).save(grey)
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(turned(tmp_path / "whole.jpg", 3).read_bytes()[:200])
    places = {"grey": grey, "damaged": damaged, "missing": tmp_path / "missing.jpg"}
    data = collect([replace(one(name), images=[path]) for name, path in places.items()], NAMES)
    assert np.asarray(data.picture(0)).tolist() == np.full((20, 30, 3), 7).tolist()
    for row, name in ((1, "damaged"), (2, "missing")):
        with pytest.raises(UserError, match=f"The image {name} cannot be read"):
            data.picture(row)
    other = collect([replace(one("grey"), images=[grey], sizes=np.array([[30, 20]]))], NAMES)
    with pytest.raises(UserError, match="grey is 30 wide and 20 high, but its annotation says 20 and 30"):
        other.picture(0)
