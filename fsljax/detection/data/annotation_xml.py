"""Annotations in PASCAL VOC's XML, in which ImageNet's boxes are written too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from fsljax.detection.data.set_operations import one_image
from fsljax.detection.data.structures import DetectionSet
from fsljax.errors import UserError


def class_names_in(path: Path) -> list[str]:
    """The class of each object in one file.

    Raises:
      UserError: as `annotated`.
    """
    return [name for name, _, _ in _objects(path, _parsed(path))]


def annotated(image: Path, xml: Path, identity: str) -> DetectionSet:
    """An image file with what its XML says; the file is opened only if the XML does not give its size.

    VOC counts pixels from 1 and names the last one inside; boxes here begin at 0 and end behind the last, so
    that 1 is taken from `xmin` and `ymin`; only 0, which files of other programs have, stays 0.

    Returns:
      A set of one image, as `fsljax.detection.data.set_operations.one_image` gives it.

    Raises:
      UserError: a file is missing, the XML does not parse, or it lacks a name or a number.
    """
    root = _parsed(xml)
    objects = _objects(xml, root)
    return one_image(
        image,
        identity,
        str(xml),
        _size(xml, root) or _stored_size(image),
        boxes=[box for _, box, _ in objects],
        classes=[name for name, _, _ in objects],
        difficult=[difficult for _, _, difficult in objects],
    )


def read_list(path: Path) -> list[str]:
    """The first word of every line of a text file.

    Raises:
      UserError: it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The list {path} cannot be read: {error}.") from error
    return [line.split()[0] for line in lines if line.strip()]


def missing_split(split: str, folder: Path, there: Sequence[str]) -> UserError:
    """The error for a split that a folder lacks."""
    return UserError(
        f"{folder} has no split {split!r}, "
        + (f"only {', '.join(sorted(there))}." if there else "and no other: is it the data set's folder?")
    )


def _parsed(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except OSError as error:
        raise UserError(f"The annotation {path} cannot be read: {error.strerror}.") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(
            f"The annotation {path} is not valid XML ({error}). Correct it, or copy it anew."
        ) from error


def _objects(path: Path, root: ElementTree.Element) -> list[tuple[str, list[float], bool]]:
    """Class, box, and whether it is difficult, of each object."""
    try:
        return [
            (
                _text(one, "name"),
                [
                    _begin(float(_text(one, "bndbox/ymin"))),
                    _begin(float(_text(one, "bndbox/xmin"))),
                    float(_text(one, "bndbox/ymax")),
                    float(_text(one, "bndbox/xmax")),
                ],
                one.findtext("difficult", "0").strip() == "1",
            )
            for one in root.findall("object")
        ]
    except ValueError as error:
        raise _unusable(path, error) from error


def _size(path: Path, root: ElementTree.Element) -> tuple[int, int] | None:
    """The image's (height, width), or None where the XML does not say."""
    height, width = root.findtext("size/height"), root.findtext("size/width")
    try:
        if not height or not width or int(height) <= 0 or int(width) <= 0:
            return None
        return int(height), int(width)
    except ValueError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: ValueError) -> UserError:
    return UserError(f"The annotation {path} cannot be used: {error}. Correct it.")


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
