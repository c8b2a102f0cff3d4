"""PASCAL VOC's XML."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fsljax.detection.data.annotations.voc_xml import annotated, counts_from_zero, read_annotation, read_list
from fsljax.detection.data.structures import DetectionSet
from fsljax.errors import UserError

OBJECT = (
    "<object><name> dog </name>{difficult}<bndbox><xmin>{xmin}</xmin><ymin>3</ymin><xmax>9.5</xmax>"
    "<ymax>8</ymax></bndbox></object>"
)


SIZE = "<size><width>20</width><height>10</height></size>"


def write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def read(xml: Path) -> DetectionSet:
    annotation = read_annotation(xml)
    return annotated(xml.with_suffix(".png"), annotation, "a", from_zero=counts_from_zero([annotation]))


def one(xmin: str = "1", difficult: str = "", rest: str = "") -> str:
    return f"<annotation>{rest}{OBJECT.format(xmin=xmin, difficult=difficult)}</annotation>"


@pytest.mark.parametrize(("xmin", "box"), [("1", [2, 0, 8, 9.5]), ("5.5", [2, 4.5, 8, 9.5]),
                                           ("0", [3, 0, 8, 9.5]), ("-3", [2, -4, 8, 9.5])])  # fmt: skip
def test_pixels_are_counted_from_one_unless_a_box_begins_at_zero(tmp_path, xmin, box):
    xml = write(tmp_path / "a.xml", one(xmin, rest=SIZE))
    assert read(xml).boxes[0].tolist() == [box] and read(xml).class_names == ("dog",)


@pytest.mark.parametrize(
    ("given", "difficult"),
    [
        ("", False),
        ("<difficult/>", False),
        *((f"<difficult>{word}</difficult>", False) for word in ("0", " False ", "no", "Unspecified")),
        *((f"<difficult>{word}</difficult>", True) for word in ("1", "True", "YES", " true\n")),
    ],
)
def test_difficult_is_read(tmp_path, given, difficult):
    xml = write(tmp_path / "a.xml", one(difficult=given, rest=SIZE))
    assert read(xml).difficult[0].tolist() == [difficult]


def test_the_image_gives_its_size_where_the_xml_does_not(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    for rest in ("", "<size><width>0</width><height>0</height></size>", "<size><width>4</width></size>"):
        xml = write(tmp_path / "a.xml", one(rest=rest))
        assert read(xml).sizes.tolist() == [[20, 30]]
    xml = write(tmp_path / "a.xml", one(rest="<size><width>7.0</width><height> 6 </height></size>"))
    assert read(xml).sizes.tolist() == [[6, 7]]
    with pytest.raises(UserError, match=r"b\.png cannot be read"):
        annotated(tmp_path / "b.png", read_annotation(write(tmp_path / "a.xml", one())), "b")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("<annotation><object>", r"bad\.xml is not valid XML"),
        ("", r"bad\.xml is not valid XML"),
        ("<html/>", r"bad\.xml cannot be used: its root is <html>"),
        (one("left"), r"bad\.xml cannot be used: bndbox/xmin of object 1 is 'left', which is not a number"),
        (one("1_0"), "'1_0', which is not a number"),
        (one("nan"), "'nan', which is not a number"),
        (one("1e999"), "'1e999', which is not a number"),
        (one().replace("<name> dog </name>", ""), r"bad\.xml cannot be used: object 1 has no name"),
        (one().replace("<ymin>3</ymin>", ""), "object 1 has no bndbox/ymin"),
        (one().replace("<ymin>3</ymin>", "<ymin>3</ymin><ymin>4</ymin>"), "object 1 has 2 bndbox/ymin"),
        (one().replace("</object>", "<bndbox/></object>"), "object 1 has 2 bndbox"),
        (one(difficult="<difficult>2</difficult>"), "difficult of object 1 is '2'; it must be 0 or 1"),
        (
            one(rest="<size><width>x</width><height>1</height></size>"),
            r"bad\.xml cannot be used: size is 'x'",
        ),
        (one(rest="<size><width>4.5</width><height>1</height></size>"), "4.5 × 1 is not in whole pixels"),
        (one(rest="<size><width>1e9</width><height>1</height></size>"), "1e9 × 1 is not in whole pixels"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, said):
    with pytest.raises(UserError, match=said):
        read(write(tmp_path / "bad.xml", content))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marks_of_byte_order_are_read_over(tmp_path, encoding):
    xml = tmp_path / "a.xml"
    xml.write_text(one(rest=SIZE).replace("dog", "chó"), encoding=encoding)
    assert read(xml).class_names == ("chó",)
    lines = tmp_path / "train.txt"
    lines.write_text("a b\r\n\n é \r\n", encoding=encoding)
    assert read_list(lines) == ["a b", "é"]
    lines.write_bytes(b"\xe9\n")
    with pytest.raises(UserError, match=r"train\.txt cannot be read"):
        read_list(lines)


def test_nothing_outside_the_file_is_read(tmp_path):
    secret = write(tmp_path / "secret.txt", "dog")
    content = f'<!DOCTYPE a [<!ENTITY e SYSTEM "{secret.as_uri()}">]>' + one().replace(" dog ", "&e;")
    with pytest.raises(UserError, match=r"bad\.xml"):
        read(write(tmp_path / "bad.xml", content))
