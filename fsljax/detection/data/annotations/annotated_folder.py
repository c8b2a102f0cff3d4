"""A folder in VOC's layout: its annotations, the image that each is of, and its lists."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from fsljax.data.io.formats import is_image
from fsljax.detection.data.annotations.voc_xml import (
    Annotation,
    counts_from_zero,
    read_annotation,
    read_list,
    visible,
)
from fsljax.errors import UserError, first_few

# VOC's lists of one class have `id  1`, `id -1` or `id  0`, the number in two places; `photo 1` is a name.
_OF_ONE_CLASS = re.compile(r"(\S.*?)\s+(?:1|-1|0)")
_IN_TWO_PLACES = re.compile(r".*(?:\s-1|\s\s[01]|\t[01])")
_PREFERRED = (".jpg", ".jpeg", ".jpe", ".jfif", ".png")


class AnnotatedFolder:
    """The folder whose annotations lie in `Annotations` and whose images in `JPEGImages`.

    All annotations are read, for the classes and for how pixels are counted, which are of the whole folder
    and not of a list; damaged ones matter only where a list names them.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._several: dict[str, str] = {}
        self._read: dict[str, Annotation] = {}
        self._damaged: dict[str, UserError] = {}
        for path in visible(root / "Annotations", "*.xml"):
            try:
                self._read[path.stem] = read_annotation(path)
            except UserError as error:
                self._damaged[path.stem] = error

    @cached_property
    def from_zero(self) -> bool:
        """Whether the annotations count pixels from 0, not from 1."""
        return counts_from_zero(self._read.values())

    @cached_property
    def class_names(self) -> frozenset[str]:
        """Of all objects."""
        return frozenset(one.name for annotation in self._read.values() for one in annotation.objects)

    def listed(self, path: Path) -> list[str]:
        """The ids in a list: its lines, or what stands before 1, -1 or 0 in each of VOC's lists of a class.

        Raises:
          UserError: it cannot be read.
        """
        lines = read_list(path)
        matches = [_OF_ONE_CLASS.fullmatch(line) for line in lines]
        known = {*map(_plain, (*self._read, *self._damaged)), *self._images}
        if any(match is None for match in matches) or any(_plain(line) in known for line in lines):
            return lines
        if "_" not in path.stem and not any(map(_IN_TWO_PLACES.fullmatch, lines)):
            return lines
        return [match[1] for match in matches if match is not None]

    def annotation(self, identity: str) -> Annotation:
        """What the XML of an image says.

        Raises:
          UserError: it is missing or damaged.
        """
        stem = self._stem(identity)
        if stem in self._damaged:
            raise self._damaged[stem]
        if stem not in self._read:  # missing, which reading it tells
            return read_annotation(self._root / "Annotations" / f"{identity}.xml")
        return self._read[stem]

    def _stem(self, identity: str) -> str:
        """The name of an annotation as it is spelled: perhaps in another Unicode form than in the list."""
        if identity in self._read or identity in self._damaged:
            return identity
        return self._spelled.get(_plain(identity), identity)

    @cached_property
    def _spelled(self) -> dict[str, str]:
        return {_plain(stem): stem for stem in (*self._read, *self._damaged)}

    def image(self, identity: str, listed_in: Path) -> Path:
        """The image file of an id: of several, that which the XML names, else JPEG before PNG before others.

        Raises:
          UserError: there is none.
        """
        folder = self._root / "JPEGImages"
        beside = self._images.get(_plain(identity), [])
        if not beside:
            others = [path.name for path in self._others.get(_plain(identity), [])]
            raise UserError(
                f"{listed_in} names {identity}, which is not in {folder}"
                + (f": {first_few(others)} there cannot be read." if others else ".")
                + " Copy the image, or remove the line."
            )
        if len(beside) == 1:
            return beside[0]
        stem = self._stem(identity)
        named = self._read[stem].image if stem in self._read else ""
        for path in beside:
            if _plain(path.name) == _plain(named):
                return path
        self._several[identity] = f"{beside[0].name} beside {beside[1].name}"
        return beside[0]

    def notes(self, ids: Sequence[str]) -> tuple[str, ...]:
        """What the user should read of the folder, after the images of these ids were found."""
        stems = list(map(self._stem, ids))
        unread = sorted(self._damaged.keys() - set(stems))
        elsewhere = [
            f"{stem}.xml names {self._read[stem].image}"
            for stem in stems
            if stem in self._read and self._names_another(stem)
        ]
        unlisted = "Unreadable annotations, skipped because the list does not name them"
        several = "Images used where several files share the name"
        another = "Annotations that name another image in the folder, while that of their own name is used"
        return tuple(
            f"{what}: {len(names)} ({first_few(names)})."
            for what, names in (
                (unlisted, unread),
                (several, list(self._several.values())),
                (another, elsewhere),
            )
            if names
        )

    def _names_another(self, stem: str) -> bool:
        named = Path(self._read[stem].image)
        return _plain(named.stem) != _plain(stem) and any(
            _plain(path.name) == _plain(named.name) for path in self._images.get(_plain(named.stem), [])
        )

    @cached_property
    def _images(self) -> dict[str, list[Path]]:
        """Image files by their name without extension, in the order in which they are preferred."""
        found = _by_stem(path for path in self._files if is_image(path.name))
        order = {suffix: place for place, suffix in enumerate(_PREFERRED)}
        for paths in found.values():
            paths.sort(key=lambda path: (order.get(path.suffix.lower(), len(order)), path.name))
        return found

    @cached_property
    def _others(self) -> dict[str, list[Path]]:
        return _by_stem(path for path in self._files if not is_image(path.name))

    @cached_property
    def _files(self) -> list[Path]:
        return [path for path in visible(self._root / "JPEGImages", "*") if path.is_file()]


def _by_stem(paths: Iterable[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(_plain(path.stem), []).append(path)
    return found


def _plain(name: str) -> str:
    """A name as it is compared: macOS writes letters and their accents apart."""
    return unicodedata.normalize("NFC", name)
