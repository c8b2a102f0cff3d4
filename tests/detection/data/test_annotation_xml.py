"""PASCAL VOC's XML."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fsljax.detection.data.annotation_xml import annotated, class_names_in
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
    return annotated(xml.with_suffix(".png"), xml, "a")


def one(xmin: str = "1", difficult: str = "", rest: str = "") -> str:
    return f"<annotation>{rest}{OBJECT.format(xmin=xmin, difficult=difficult)}</annotation>"


@pytest.mark.parametrize(("xmin", "begin"), [("1", 0), ("5.5", 4.5), ("0", 0), ("-3", -3)])
def test_pixels_are_counted_from_zero(tmp_path, xmin, begin):
    xml = write(tmp_path / "a.xml", one(xmin, rest=SIZE))
    assert read(xml).boxes[0].tolist() == [[2.0, begin, 8.0, 9.5]] and read(xml).class_names == ("dog",)
    assert class_names_in(xml) == ["dog"]


@pytest.mark.parametrize(
    ("given", "difficult"),
    [("", False), ("<difficult>0</difficult>", False), ("<difficult>1</difficult>", True)],
)
def test_difficult_is_read(tmp_path, given, difficult):
    xml = write(tmp_path / "a.xml", one(difficult=given, rest=SIZE))
    assert read(xml).difficult[0].tolist() == [difficult]


def test_the_image_gives_its_size_where_the_xml_does_not(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    for rest in ("", "<size><width>0</width><height>0</height></size>"):
        xml = write(tmp_path / "a.xml", one(rest=rest))
        assert read(xml).sizes.tolist() == [[20, 30]]
    xml = write(tmp_path / "a.xml", one(rest="<size><width>7</width><height>6</height></size>"))
    assert read(xml).sizes.tolist() == [[6, 7]]
    with pytest.raises(UserError, match=r"b\.png cannot be read"):
        annotated(tmp_path / "b.png", write(tmp_path / "a.xml", one()), "b")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("<annotation><object>", r"bad\.xml is not valid XML"),
        ("", r"bad\.xml is not valid XML"),
        (one("left"), r"bad\.xml cannot be used: could not convert"),
        (one().replace("<name> dog </name>", ""), r"bad\.xml cannot be used: an object has no name"),
        (one().replace("<ymin>3</ymin>", ""), "an object has no bndbox/ymin"),
        (one(rest="<size><width>x</width><height>1</height></size>"), r"bad\.xml cannot be used"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, said):
    with pytest.raises(UserError, match=said):
        read(write(tmp_path / "bad.xml", content))


def test_nothing_outside_the_file_is_read(tmp_path):
    secret = write(tmp_path / "secret.txt", "dog")
    content = f'<!DOCTYPE a [<!ENTITY e SYSTEM "{secret.as_uri()}">]>' + one().replace(" dog ", "&e;")
    with pytest.raises(UserError, match=r"bad\.xml"):
        read(write(tmp_path / "bad.xml", content))
