"""Annotations that LabelMe writes: one JSON file an image, with shapes and, often, the image itself."""

from __future__ import annotations

import base64
import binascii
import math
from pathlib import Path
from typing import Any, NamedTuple

from fsljax.errors import UserError
from fsljax.storage.json_files import read_json

_SHOWN = 60  # characters of a value
_AREAS = ("rectangle", "polygon", "mask")
_NO_AREAS = ("point", "line", "linestrip", "points")
_LARGEST_SIDE = 1_000_000  # pixels

Box = tuple[float, float, float, float]


class LabelMeFile(NamedTuple):
    """What a file says.

    Attributes:
      image: the image's file name as written, relative to the file; "" where it gives none.
      content: of the image file; None where it is not in here.
      size: the image's (height, width), as LabelMe shows it: upright; None where it gives none.
      labels: of the shapes that have an area.
      boxes: around them, `[y_min, x_min, y_max, x_max]`.
      passed_over: how many shapes have none: points and lines.
    """

    image: str
    content: bytes | None
    size: tuple[int, int] | None
    labels: tuple[str, ...]
    boxes: tuple[Box, ...]
    passed_over: int


def is_labelme(stored: object) -> bool:
    """Whether a JSON document is in LabelMe's form."""
    return isinstance(stored, dict) and isinstance(stored.get("shapes"), list)


def read_shapes(path: Path) -> LabelMeFile:
    """Reads one file.

    Raises:
      UserError: it is missing, is no valid JSON or not in LabelMe's form, or a shape lacks a label or points.
    """
    try:
        stored = read_json(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist.") from error
    if not is_labelme(stored):
        raise UserError(f"{path} is not in LabelMe format: it needs a list of shapes.")
    try:
        found = [_shape(one, f"shapes[{number}]") for number, one in enumerate(stored["shapes"])]
        shapes = [one for one in found if one is not None]
        return LabelMeFile(
            _text(stored.get("imagePath")),
            _content(stored.get("imageData")),
            _size(stored),
            tuple(label for label, _ in shapes),
            tuple(box for _, box in shapes),
            len(found) - len(shapes),
        )
    except ValueError as error:
        raise UserError(f"The annotation {path} cannot be used: {error}. Correct it.") from error


def _shape(given: Any, where: str) -> tuple[str, Box] | None:
    if not isinstance(given, dict):
        raise ValueError(f"{where} is {_shown(given)}, not an object of fields")
    label, points = given.get("label"), given.get("points")
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"{where} has the label {_shown(label)}; it must be non-empty text")
    if not isinstance(points, list) or not points or not all(map(_is_point, points)):
        raise ValueError(f"{where} has the points {_shown(points)}; they must be pairs of numbers, [x, y]")
    kind = given.get("shape_type") or ("rectangle" if len(points) == 2 else "polygon")
    if kind in _NO_AREAS:
        return None
    if kind == "circle" and len(points) == 2:
        (x, y), radius = points[0], math.dist(*points)
        return label.strip(), (y - radius, x - radius, y + radius, x + radius)
    if kind not in _AREAS or len(points) < 2:
        raise ValueError(f"{where} is a {_shown(kind)} of {len(points)} points, which has no bounding box")
    columns, rows = zip(*points, strict=True)
    return label.strip(), (min(rows), min(columns), max(rows), max(columns))


def _is_point(given: object) -> bool:
    return isinstance(given, list) and len(given) == 2 and all(map(_is_number, given))


def _is_number(given: object) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and abs(given) <= _LARGEST_SIDE


def _size(stored: dict[str, Any]) -> tuple[int, int] | None:
    sides = [stored.get(name) for name in ("imageHeight", "imageWidth")]
    if None in sides:
        return None
    for side in sides:
        if not _is_number(side) or side != int(side) or side < 1:  # type: ignore[arg-type, operator]
            raise ValueError(f"the image's size is {_shown(sides)}; it must be whole pixels")
    height, width = (int(side) for side in sides)  # type: ignore[arg-type]
    return height, width


def _content(given: object) -> bytes | None:
    if not isinstance(given, str) or not given:
        return None
    try:
        return base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"imageData is damaged ({error})") from None


def _text(given: object) -> str:
    return given.strip() if isinstance(given, str) else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
