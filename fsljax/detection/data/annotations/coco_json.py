"""Annotations in COCO's JSON, every field of them checked."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PureWindowsPath
from posixpath import normpath
from typing import Any, NamedTuple, TypeVar

from fsljax.errors import UserError, first_few
from fsljax.storage.json_files import read_json

_LARGEST_SIDE = 1_000_000  # pixels
_SHOWN = 60  # characters of a value

Id = int | str
Json = dict[str, Any]
T = TypeVar("T")


class CocoImage(NamedTuple):
    """An image: `size` is (height, width), None for what is not given; `file_name` is relative."""

    id: Id
    file_name: str
    size: tuple[int | None, int | None]


class CocoObject(NamedTuple):
    """An object: `box` is `[y_min, x_min, y_max, x_max]`; `ignored` ones count neither way, as crowds."""

    image: Id
    category: Id
    box: tuple[float, float, float, float]
    crowd: bool
    ignored: bool


class CocoFile(NamedTuple):
    """What a file says.

    Attributes:
      images: in the order of the file.
      objects: of each image, by its id.
      class_names: by the categories' ids; two categories of one name are one.
      notes: sentences the user should read.
    """

    images: list[CocoImage]
    objects: dict[Id, list[CocoObject]]
    class_names: dict[Id, str]
    notes: tuple[str, ...]


def read_annotations(file: Path) -> CocoFile:
    """Reads a file of instances.

    An entry that is there twice, alike and under one id, counts once, with a note.

    Raises:
      UserError: it cannot be read, is not in COCO's form, a field is missing or of another type than it must
        be, two entries have one id, or an annotation is of an unknown image or category.
    """
    try:
        stored = read_json(file, nan=True)
    except FileNotFoundError as error:
        raise UserError(f"{file} does not exist.") from error
    if not isinstance(stored, dict):
        raise UserError(f"{file} holds {_kind(stored)}; COCO format is an object with images, annotations "
                        "and categories.")  # fmt: skip
    images, again = _distinct(_entries(stored, "images", file), _image)
    categories, twice = _distinct(_entries(stored, "categories", file), lambda one: one.text("name").strip())
    numbers = sorted(categories, key=lambda identity: (isinstance(identity, str), identity))
    known = images.keys(), categories.keys()
    objects, repeated = _distinct(
        _entries(stored, "annotations", file), lambda one: _object(one, *known), needs_id=False
    )
    by_image: dict[Id, list[CocoObject]] = {}
    for one in objects.values():
        by_image.setdefault(one.image, []).append(one)
    names = [categories[number] for number in numbers]
    shared = sorted({name for name in names if names.count(name) > 1})
    notes = [
        f"{what} in {file}, {done}: {len(found)} ({first_few(found)})."
        for what, done, found in (
            ("Duplicate entries", "counted once", [*again, *twice, *repeated]),
            ("Categories with the same name", "treated as one class", shared),
        )
        if found
    ]
    return CocoFile(list(images.values()), by_image, dict(zip(numbers, names, strict=True)), tuple(notes))


class _Entry(NamedTuple):
    """One entry of a list, which says where it is in errors."""

    file: Path
    part: str
    number: int
    fields: Json

    @property
    def place(self) -> str:
        return f"{self.part}[{self.number}] of {self.file}"

    def fault(self, field: str, must: str) -> UserError:
        said = f"{field} {_shown(self.fields[field])}" if field in self.fields else f"no {field}"
        identity = self.fields.get("id")
        named = f" (id {_shown(identity)})" if field != "id" and isinstance(identity, int | str) else ""
        return UserError(f"{self.place}{named} has {said}; it must be {must}. Correct it.")

    def text(self, field: str) -> str:
        value = self.fields.get(field)
        if isinstance(value, str) and value.strip() and not any(map(_is_control, value)):
            return value
        raise self.fault(field, "non-empty text")


def _entries(stored: Json, part: str, file: Path) -> list[_Entry]:
    listed = stored.get(part)
    if not isinstance(listed, list):
        raise UserError(
            f"{file} is not in COCO format: its {part} are {_kind(listed)}, not a list. It needs images, "
            "annotations and categories, as COCO's instances files have them."
        )
    for number, one in enumerate(listed):
        if not isinstance(one, dict):
            raise UserError(
                f"{part}[{number}] of {file} is {_shown(one)}, not an object of fields. Correct it."
            )
    return [_Entry(file, part, number, one) for number, one in enumerate(listed)]


def _image(entry: _Entry) -> CocoImage:
    given = entry.text("file_name")
    name = normpath(given.replace("\\", "/"))
    if PureWindowsPath(given).is_absolute() or name == ".." or name.startswith(("/", "../")):
        raise entry.fault("file_name", "the name of a file inside the image folder")
    if name == ".":
        raise entry.fault("file_name", "the name of a file")
    return CocoImage(_id(entry, "id"), given, (_side(entry, "height"), _side(entry, "width")))


def _object(entry: _Entry, images: Collection[Id], categories: Collection[Id]) -> CocoObject:
    return CocoObject(
        _known(entry, "image_id", "image", images),
        _known(entry, "category_id", "category", categories),
        _box(entry),
        _flag(entry, "iscrowd"),
        _flag(entry, "ignore"),
    )


def _known(entry: _Entry, field: str, what: str, known: Collection[Id]) -> Id:
    identity = _id(entry, field)
    if identity not in known:
        raise UserError(
            f"{entry.place} (id {_shown(entry.fields.get('id'))}) refers to {what} {_shown(identity)}, which "
            "does not exist. Correct it."
        )
    return identity


def _distinct(
    entries: Sequence[_Entry], parse: Callable[[_Entry], T], *, needs_id: bool = True
) -> tuple[dict[Id, T], list[str]]:
    """What the entries say, by their ids, and which of them say again what one of their id said before."""
    first: dict[Id, _Entry] = {}
    parsed: dict[Id, T] = {}
    repeated = []
    for entry in entries:
        said = parse(entry)
        if not needs_id and entry.fields.get("id") is None:
            identity: Id = f"{entry.part}[{entry.number}]"
        else:
            identity = _id(entry, "id")
        if identity not in parsed:
            first[identity], parsed[identity] = entry, said
        elif parsed[identity] == said:
            repeated.append(f"{entry.part}[{entry.number}]")
        else:
            raise _twice(first[identity], entry, identity)
    return parsed, repeated


def _twice(before: _Entry, entry: _Entry, identity: Id) -> UserError:
    return UserError(
        f"{before.part}[{before.number}] and [{entry.number}] of {entry.file} share the id "
        f"{_shown(identity)} but differ, so references to it are ambiguous. Renumber them, or remove one."
    )


def _id(entry: _Entry, field: str) -> Id:
    """A number, whether it is written as such or as a text; or another text."""
    value = entry.fields.get(field)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        return int(value) if str(int(value)) == value else value
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise entry.fault(field, "a whole number")
    return value


def _side(entry: _Entry, field: str) -> int | None:
    value = entry.fields.get(field)
    if value is None:
        return None
    if _is_number(value) and 1 <= value <= _LARGEST_SIDE and value == int(value):
        return int(value)
    raise entry.fault(field, "a whole number of pixels, or omitted")


def _box(entry: _Entry) -> tuple[float, float, float, float]:
    value = entry.fields.get("bbox")
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_number, value)):
        raise entry.fault("bbox", "four numbers, [x, y, width, height] in pixels")
    try:
        x, y, width, height = map(float, value)
    except OverflowError:
        raise entry.fault("bbox", "four numbers, [x, y, width, height] in pixels") from None
    return y, x, y + height, x + width


def _flag(entry: _Entry, field: str) -> bool:
    value = entry.fields.get(field)
    if value is None:
        return False
    if isinstance(value, bool) or (_is_number(value) and value in (0, 1)):
        return bool(value)
    raise entry.fault(field, "0 or 1")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_control(letter: str) -> bool:
    """Whether it is none of a name: a control character, or half of a pair that no file name can hold."""
    return unicodedata.category(letter) in ("Cc", "Cs")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", type(None): "missing", bool: "true or false"}
    return names.get(type(value), "a number")
