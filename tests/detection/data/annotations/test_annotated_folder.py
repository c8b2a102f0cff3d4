"""Folders in VOC's layout as people have them: several files of a name, lists of all kinds, damage beside."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsljax.detection.data.sets import voc
from fsljax.errors import UserError


def one(name: str = "cat", box: tuple[float, ...] = (5, 7, 25, 30)) -> str:
    sides = "".join(
        f"<{side}>{at}</{side}>" for side, at in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name><bndbox>{sides}</bndbox></object>"


def write(root: Path, files: dict[str, str], train: str | bytes, more: str = "") -> Path:
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / part).mkdir(parents=True)
    for name, objects in files.items():
        Image.new("RGB", (64, 48), "white").save(root / "JPEGImages" / f"{name}.jpg")
        size = "<size><width>64</width><height>48</height></size>"
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{more}{size}{objects}</annotation>")
    content = train if isinstance(train, bytes) else train.encode()
    (root / "ImageSets/Main/train.txt").write_bytes(content)
    return root


def test_a_line_is_a_name_as_it_stands(tmp_path):
    files = {"photo": one("dog"), "photo (1)": one(), "photo 1": one(), "a": one()}
    root = write(tmp_path / "voc", files, "photo (1)\n photo 1 \n")
    assert voc.read_folder(root, "train").ids == ("photo (1)", "photo 1")
    (root / "ImageSets/Main/cat_train.txt").write_text("photo -1\na  1\nphoto (1)  0\n")
    assert voc.read_folder(root, "cat_train").ids == ("photo", "a", "photo (1)")
    # An image without annotation is no other image with a number.
    Image.new("RGB", (64, 48)).save(root / "JPEGImages/a 0.jpg")
    for listed in ("a 0\n", "a 1\n", "b\na  1\n"):
        (root / "ImageSets/Main/train.txt").write_text(listed)
        with pytest.raises(UserError):
            voc.read_folder(root, "train")
    (root / "ImageSets/Main/train.txt").write_text("a 5\n")
    with pytest.raises(UserError, match=r"train\.txt names a 5, which is not in"):
        voc.read_folder(root, "train")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_may_have_marks(tmp_path, encoding):
    root = write(tmp_path / "voc", {"a": one(), "b": one()}, "a\r\nb\r\n".encode(encoding))
    assert voc.read_folder(root, "train").ids == ("a", "b")


def test_a_mask_beside_the_image_is_not_read(tmp_path):
    root = write(tmp_path / "voc", {"a": one()}, "a\n")
    for suffix in ("png", "bmp"):
        Image.new("L", (64, 48), 1).save(root / f"JPEGImages/a.{suffix}")
    for name in ("a.txt", "._a.jpg", "a.json"):
        (root / "JPEGImages" / name).write_text("0")
    (root / "Annotations/._a.xml").write_bytes(b"\x00\x05\x16\x07")
    read = voc.read_folder(root, "train")
    assert np.asarray(read.picture(0)).min() == 255
    assert read.notes == ("Images used where several files share the name: 1 (a.jpg beside a.png).",)
    xml = root / "Annotations/a.xml"
    xml.write_text(xml.read_text().replace("<size>", "<filename>a.png</filename><size>"))
    read = voc.read_folder(root, "train")
    assert np.asarray(read.picture(0)).max() == 1 and read.notes == ()


def test_what_lies_there_instead_of_an_image_is_named(tmp_path):
    root = write(tmp_path / "voc", {"a": one()}, "a\n")
    (root / "JPEGImages/a.jpg").rename(root / "JPEGImages/a.jp2")
    with pytest.raises(
        UserError, match=r"names a, which is not in .*JPEGImages: a\.jp2 there cannot be read"
    ):
        voc.read_folder(root, "train")


def test_damage_matters_only_where_a_list_names_it(tmp_path):
    root = write(tmp_path / "voc", {"a": one(), "b": one("dog")}, "a\n")
    (root / "Annotations/b.xml").write_text("<annotation><object>")
    read = voc.read_folder(root, "train")
    assert len(read.notes) == 1 and "skipped" in read.notes[0] and "1 (b)" in read.notes[0]
    (root / "ImageSets/Main/val.txt").write_text("b\n")
    with pytest.raises(UserError, match=r"b\.xml is not valid XML"):
        voc.read_folder(root, "val")
    (root / "Annotations/b.xml").unlink()
    with pytest.raises(UserError, match=r"b\.xml cannot be read: No such file"):
        voc.read_folder(root, "val")


def test_pixels_are_counted_alike_in_all_lists(tmp_path):
    files = {"a": one(box=(0, 3, 10, 13)) + one(box=(20, 20, 30, 30)), "b": one(box=(20, 20, 30, 30))}
    root = write(tmp_path / "voc", files, "a\n")
    (root / "ImageSets/Main/val.txt").write_text("b\n")
    for split, boxes in (("train", [[3, 0, 13, 10], [20, 20, 30, 30]]), ("val", [[20, 20, 30, 30]])):
        read = voc.read_folder(root, split)
        assert read.boxes[0].tolist() == boxes
        assert len(read.notes) == 1 and "start at pixel 0" in read.notes[0]
    (root / "Annotations/a.xml").unlink()
    assert voc.read_folder(root, "val").boxes[0].tolist() == [[19, 19, 30, 30]]


def test_fractions_are_refused(tmp_path):
    root = write(tmp_path / "voc", {"a": one(box=(0.1, 0.2, 0.5, 0.9)), "b": one(box=(0, 0, 1, 1))}, "a\nb\n")
    with pytest.raises(UserError, match=r"a\.xml.* fractions"):
        voc.read_folder(root, "train")
    with pytest.raises(UserError, match="fractions"):
        voc.read_folder(root, "train", drop_bad_boxes=True)


def test_classes_that_differ_in_case_are_told(tmp_path):
    root = write(tmp_path / "voc", {"a": one("Tram") + one("tram", (1, 1, 9, 9))}, "a\n")
    read = voc.read_folder(root, "train")
    assert read.class_names == ("Tram", "tram") and "'Tram' and 'tram'" in read.notes[0]


def test_accents_may_be_written_apart(tmp_path):
    apart = unicodedata.normalize("NFD", "été")
    root = write(tmp_path / "voc", {apart: one()}, unicodedata.normalize("NFC", "été\n"))
    read = voc.read_folder(root, "train")
    assert len(read.boxes[0]) == 1 and read.picture(0).size == (64, 48)


def test_an_annotation_of_another_image_is_told(tmp_path):
    root = write(tmp_path / "voc", {"a": one(), "b": one()}, "a\nb\n", more="<filename>b.jpg</filename>")
    read = voc.read_folder(root, "train")
    assert len(read.notes) == 1 and "1 (a.xml names b.jpg)" in read.notes[0]
    assert [Path(str(image)).name for image in read.images] == ["a.jpg", "b.jpg"]


def test_an_image_that_is_listed_twice_is_told_with_its_place(tmp_path):
    root = write(tmp_path / "voc", {"a": one()}, "a\na\n")
    with pytest.raises(UserError, match=r"image a is listed twice \(.*a\.xml.*second line in the list"):
        voc.read_folder(root, "train")
