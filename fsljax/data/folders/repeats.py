"""Images that a folder holds more than once, by links or as copies, and names in two forms of Unicode."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fsljax.data.folders.walking import composed
from fsljax.errors import first_few

Classes = dict[str, list[str]]
"""Image files of each class, as paths relative to the root folder."""

PARTS = ("train", "validation", "test")


class _Place(NamedTuple):
    part: str
    name: str
    file: str


_TAIL = 4096  # bytes at the end of a file that are compared before the whole


def without_repeats(root: Path, parts: Mapping[str, Classes], notes: list[str]) -> dict[str, Classes]:
    """Of an image that links put into several places only the one it really has.

    Of hard links, which all are real, the first counts.
    """
    real_folder = cache(os.path.realpath)
    real_root = real_folder(str(root))

    def real_path(file: str) -> str:
        folder, _, name = f"{root}/{file}".rpartition("/")
        path = f"{real_folder(folder)}/{name}"
        # Making a Path of each of 100,000 files would take a second.
        return os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114

    places = [
        _Place(part, name, file)
        for part in PARTS
        for name, files in parts.get(part, {}).items()
        for file in files
    ]
    path_of = {place.file: real_path(place.file) for place in places}
    real = {file: _identity(path) for file, path in path_of.items()}
    first: dict[Hashable, _Place] = {}
    for place in sorted(places, key=lambda place: path_of[place.file] != f"{real_root}/{place.file}"):
        first.setdefault(real[place.file], place)

    def once(part: str, name: str) -> list[str]:
        # A list that names a file in two parts is refused where its classes are looked at.
        own = [
            file
            for file in parts[part][name]
            if first[real[file]][:2] == (part, name) or first[real[file]].file == file
        ]
        return sorted({real[file]: file for file in reversed(own)}.values())

    kept = {part: {name: once(part, name) for name in parts[part]} for part in parts}
    left = {file for classes in kept.values() for files in classes.values() for file in files}
    if repeats := [file for file in real if file not in left]:
        notes.append(
            f"Images of {root} that occur twice because of links, and are counted once "
            f"({len(repeats):,}): {first_few(repeats)}."
        )
    return kept


def _identity(path: str) -> Hashable:
    try:
        status = os.stat(path)  # noqa: PTH116  # as above
    except OSError:
        return path
    return (status.st_dev, status.st_ino) if status.st_nlink > 1 and status.st_ino else path


def in_one_form(root: Path, parts: Mapping[str, Classes], notes: list[str]) -> dict[str, Classes]:
    """Classes whose names look the same, written in two of Unicode's forms, as one class."""
    forms: defaultdict[str, set[str]] = defaultdict(set)
    for classes in parts.values():
        for name in classes:
            forms[composed(name)].add(name)
    if not (twice := {form: names for form, names in forms.items() if len(names) > 1}):
        return dict(parts)
    notes.append(
        f"Classes of {root} whose names look the same but have two Unicode forms, and are "
        f"treated as one class ({len(twice):,}): {first_few(list(twice))}."
    )
    joined: dict[str, Classes] = {}
    for part, classes in parts.items():
        joined[part] = {}
        for name, files in classes.items():
            known = composed(name) if composed(name) in twice else name
            joined[part][known] = sorted([*joined[part].get(known, []), *files])
    return joined


def first_equals(root: Path, files: Sequence[str]) -> np.ndarray:
    """For each file the position of the first that is byte for byte the same, int64 `[n]`; mostly its own.

    Files are compared only where sizes and ends are equal; what cannot be read is equal to nothing.
    """
    groups: list[list[int]] = [list(range(len(files)))]
    for kind in (_size, _tail, _content):
        groups = [equal for group in groups for equal in _grouped(group, lambda i: kind(root / files[i]))]  # noqa: B023
    first = np.arange(len(files), dtype=np.int64)
    for group in groups:
        first[group] = group[0]
    return first


def _grouped(positions: Iterable[int], kind: Callable[[int], Hashable]) -> list[list[int]]:
    """Positions of the same kind, where there are several; None is no kind."""
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    for position in positions:
        try:
            groups[kind(position)].append(position)
        except OSError:
            continue
    return [group for group in groups.values() if len(group) > 1]


def _size(path: Path) -> int:
    return path.stat().st_size


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return hashlib.sha256(file.read()).digest()


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def note_copies(
    root: Path, parts: Mapping[str, Classes], equals: Mapping[str, str], notes: list[str]
) -> None:
    """Notes images that are byte for byte the same.

    Args:
      root: the folder.
      parts: its images.
      equals: for each of them the first that is the same.
      notes: where to.
    """
    groups: defaultdict[str, list[_Place]] = defaultdict(list)
    for part in PARTS:
        for name, files in parts[part].items():
            for file in files:
                groups[equals[file]].append(_Place(part, name, file))
    found: dict[str, list[str]] = {"parts": [], "classes": [], "class": []}
    for group in groups.values():
        if len(group) > 1:
            a = group[0]
            b = next(
                (place for place in group if place.part != a.part),
                next((place for place in group if place.name != a.name), group[1]),
            )
            where = "parts" if b.part != a.part else "classes" if b.name != a.name else "class"
            found[where].append(f"{a.file} ({a.part}) and {b.file} ({b.part})")
    for where, meaning, pairs in (
        (
            "in two splits",
            "a test would include images that were trained on: keep each in one split",
            found["parts"],
        ),
        ("in two classes", "only one of these can be right: keep each in one class", found["classes"]),
        ("twice in one class", "an image may then be its own query: keep one of each", found["class"]),
    ):
        if pairs:
            notes.append(
                f"Images of {root} that are byte-for-byte identical {where} ({len(pairs):,}): "
                f"{first_few(pairs)}; {meaning}."
            )
