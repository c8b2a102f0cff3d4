"""Annotations in PASCAL VOC's XML, in which ImageNet's boxes are written too."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from fsljax.detection.data.orientation import size_of
from fsljax.detection.data.set_operations import one_image
from fsljax.detection.data.structures import DetectionSet
from fsljax.errors import UserError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_YES, _NO = ("1", "1.0", "true", "yes", "t", "y"), ("", "0", "0.0", "false", "no", "f", "n", "unspecified")
_LARGEST_SIDE = 1_000_000  # pixels
_HALF = 0.5
_SIDES = ("ymin", "xmin", "ymax", "xmax")


class Object(NamedTuple):
    """An object as the XML gives it: `[y_min, x_min, y_max, x_max]` in the numbers of the file."""

    name: str
    box: tuple[float, float, float, float]
    difficult: bool


class Annotation(NamedTuple):
    """What the XML of an image says.

    Attributes:
      file: that holds it.
      image: the image's file name; "" where it gives none.
      size: the image's (height, width); None where it gives none.
      objects: in the order of the file.
    """

    file: Path
    image: str
    size: tuple[int, int] | None
    objects: tuple[Object, ...]


def read_annotation(path: Path) -> Annotation:
    """Reads one file.

    Raises:
      UserError: it is missing, does not parse, or lacks a name or a number.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise UserError(f"The annotation {path} cannot be read: {error.strerror}.") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(
            f"The annotation {path} is not valid XML ({error}). Correct it, or copy it again."
        ) from error
    try:
        if root.tag != "annotation":
            raise ValueError(f"its root is <{root.tag[:40]}>, not <annotation>")
        objects = tuple(_object(one, number) for number, one in enumerate(root.findall("object"), 1))
        return Annotation(path, (root.findtext("filename") or "").strip(), _size(root), objects)
    except ValueError as error:
        raise UserError(f"The annotation {path} cannot be used: {error}. Correct it.") from error


def counts_from_zero(annotations: Iterable[Annotation]) -> bool:
    """Whether a box begins at pixel 0, so that the files are of a program that counts from it."""
    return any(
        -_HALF < begin < _HALF
        for annotation in annotations
        for one in annotation.objects
        for begin in one.box[:2]
    )


def zero_notes(from_zero: bool, folder: Path) -> tuple[str, ...]:
    """A note where boxes are not counted as VOC does."""
    if not from_zero:
        return ()
    return (
        f"Boxes in {folder} start at pixel 0, whereas VOC counts from 1: all of its boxes are read as "
        "counted from 0.",
    )


def annotated(image: Path, annotation: Annotation, identity: str, *, from_zero: bool = False) -> DetectionSet:
    """An image file with what its XML says; the file is opened only if the XML does not give its size.

    VOC counts pixels from 1 and names the last one inside; boxes here begin at 0 and end behind the last, so
    that 1 is taken from `xmin` and `ymin`, unless the files count from 0.

    Returns:
      A set of one image, as `fsljax.detection.data.set_operations.one_image` gives it.

    Raises:
      UserError: the size is neither in the XML nor in the image.
    """
    first = 0 if from_zero else 1
    objects = annotation.objects
    return one_image(
        image,
        identity,
        str(annotation.file),
        annotation.size or size_of(image),
        boxes=[
            [y_min - first, x_min - first, y_max, x_max] for _, (y_min, x_min, y_max, x_max), _ in objects
        ],
        classes=[one.name for one in objects],
        difficult=[one.difficult for one in objects],
    )


def read_list(path: Path) -> list[str]:
    """The lines of a text file that are not empty, without spaces around them.

    Raises:
      UserError: it cannot be read.
    """
    try:
        content = path.read_bytes()
        # PowerShell writes UTF-16, always with its mark.
        encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        lines = re.split(r"[\r\n]+", content.decode(encoding))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The list {path} cannot be read: {error}.") from error
    return [line.strip() for line in lines if line.strip()]


def missing_split(split: str, folder: Path, there: Sequence[str]) -> UserError:
    """The error for a split that a folder lacks."""
    return UserError(
        f"{folder} has no split {split!r}, "
        + (f"only {', '.join(sorted(there))}." if there else "nor any other: is it the data set's folder?")
    )


def visible(folder: Path, pattern: str) -> list[Path]:
    """The sorted paths in a folder, without the hidden ones that macOS and network drives leave there."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def _object(element: ElementTree.Element, number: int) -> Object:
    what = f"object {number}"
    box = element.findall("bndbox")
    if len(box) > 1:
        raise ValueError(f"{what} has {len(box)} bndbox")
    name = _text(element, "name", what)
    sides = [_number(_text(element, f"bndbox/{side}", what), f"bndbox/{side} of {what}") for side in _SIDES]
    return Object(name, (sides[0], sides[1], sides[2], sides[3]), _difficult(element, what))


def _difficult(element: ElementTree.Element, what: str) -> bool:
    word = (element.findtext("difficult") or "").strip()
    if word.lower() not in (*_YES, *_NO):
        raise ValueError(f"difficult of {what} is {word[:40]!r}; it must be 0 or 1")
    return word.lower() in _YES


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    """The image's (height, width), or None where the XML does not say."""
    texts = [(root.findtext(f"size/{side}") or "").strip() for side in ("height", "width")]
    if not all(texts):
        return None
    height, width = (_number(text, "size") for text in texts)
    if height <= 0 or width <= 0:
        return None
    for side in (height, width):
        if side != round(side) or side > _LARGEST_SIDE:
            raise ValueError(f"the size {texts[1][:40]} × {texts[0][:40]} is not in whole pixels")
    return int(height), int(width)


def _number(text: str, what: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"{what} is {text[:40]!r}, which is not a number")
    return value


def _text(element: ElementTree.Element, path: str, what: str) -> str:
    found = element.findall(path)
    if len(found) > 1:
        raise ValueError(f"{what} has {len(found)} {path}")
    text = (found[0].text or "").strip() if found else ""
    if not text:
        raise ValueError(f"{what} has no {path}")
    return text
