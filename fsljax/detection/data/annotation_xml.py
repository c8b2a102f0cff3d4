"""Annotations in PASCAL VOC's XML, in which ImageNet's boxes are written too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from PIL import Image

from fsljax.detection.data.structures import Annotated
from fsljax.errors import UserError


class XmlObjects(NamedTuple):
    """What one file says: the image's (height, width) or None, and its objects, a row each."""

    size: tuple[int, int] | None
    classes: list[str]
    boxes: list[list[float]]
    difficult: list[bool]


def read_xml(path: Path) -> XmlObjects:
    """Reads one file.

    VOC counts pixels from 1 and names the last one inside; boxes here begin at 0 and end behind the last, so
    that 1 is taken from `xmin` and `ymin`; only 0, which files of other programs have, stays 0.

    Raises:
      UserError: the file is missing, does not parse, or lacks a name or a number.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise UserError(f"The annotation {path} cannot be read: {error.strerror}.") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"The annotation {path} is no XML ({error}). Correct it, or copy it anew.") from error
    objects = root.findall("object")
    try:
        return XmlObjects(
            size=_size(root),
            classes=[_text(one, "name") for one in objects],
            boxes=[
                [
                    _begin(float(_text(one, "bndbox/ymin"))),
                    _begin(float(_text(one, "bndbox/xmin"))),
                    float(_text(one, "bndbox/ymax")),
                    float(_text(one, "bndbox/xmax")),
                ]
                for one in objects
            ],
            difficult=[one.findtext("difficult", "0").strip() == "1" for one in objects],
        )
    except ValueError as error:
        raise UserError(f"The annotation {path} cannot be used: {error}. Correct it.") from error


def annotated(image: Path, xml: Path, identity: str) -> Annotated:
    """An image file with what its XML says; the file is opened only if the XML does not give its size.

    Raises:
      UserError: as `read_xml`, or the image is missing.
    """
    read = read_xml(xml)
    return Annotated(
        image, identity, str(xml), read.size or _stored_size(image), read.boxes, read.classes, read.difficult
    )


def read_list(path: Path) -> list[str]:
    """The first word of every line of a text file.

    Raises:
      UserError: it cannot be read.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The list {path} cannot be read: {error}.") from error
    return [line.split()[0] for line in lines if line.strip()]


def missing_split(split: str, folder: Path, there: Sequence[str]) -> UserError:
    """The error for a split that a folder lacks."""
    return UserError(
        f"{folder} has no split {split!r}, "
        + (f"only {', '.join(sorted(there))}." if there else "and no other: is it the data set's folder?")
    )


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    height, width = root.findtext("size/height"), root.findtext("size/width")
    if not height or not width or int(height) <= 0 or int(width) <= 0:
        return None
    return int(height), int(width)


def _begin(first: float) -> float:
    return max(first - 1, min(first, 0))


def _text(element: ElementTree.Element, path: str) -> str:
    text = (element.findtext(path) or "").strip()
    if not text:
        raise ValueError(f"an object has no {path}")
    return text


def _stored_size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except OSError as error:
        raise UserError(f"The image {path} cannot be read: {error}.") from error
