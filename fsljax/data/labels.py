"""Labels given by an application when it enrols: strings or integers."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, KeysView, Mapping, Sequence, Set
from typing import Any

import numpy as np

from fsljax.errors import UserError

Label = str | int

_SHOWN = 5


def listed_labels(labels: Any, count: int, of: str = "image") -> list[Label]:
    """One label per image (or other item), as Python strings and integers.

    Raises:
      UserError: if their number is wrong, they are unordered, or one is not a label.
    """
    if hasattr(labels, "tolist"):
        labels = labels.tolist()
    check_order(labels, "labels", f"one for each {of}")
    one_for_all = isinstance(labels, str | bytes) or not isinstance(labels, Iterable)
    listed = [labels] * count if one_for_all else list(labels)
    if len(listed) != count:
        many = "boxes" if of == "box" else f"{of}s"
        raise UserError(f"{count} {many} were given with {len(listed)} labels: give one label for each {of}.")
    listed = [label.item() if isinstance(label, np.generic) else label for label in listed]
    for number, label in enumerate(listed):
        if isinstance(label, bool) or not isinstance(label, str | int):
            raise UserError(f"The label of {of} {number} is {label!r}; it must be a string or an integer.")
    return listed


def check_order(given: Any, what: str, wanted: str) -> None:
    """Raises a UserError for a set or a dict, whose order does not match that of the images."""
    if isinstance(given, Set | Mapping) and not isinstance(given, KeysView):
        raise UserError(
            f"The {what} are given as a {type(given).__name__}, which has no order: give a list, {wanted}."
        )


def spelled_as(labels: Sequence[Label], known: Iterable[Label]) -> list[Label]:
    """The labels, each in the spelling that is already known or came first.

    "é" looks the same as one character or as two (Unicode forms NFC and NFD, both used by file systems), and
    so do class names that contain it.
    """
    if all(not isinstance(label, str) or label.isascii() for label in labels):
        return list(labels)
    spelling: dict[str, str] = {}
    for label in (*known, *labels):
        if isinstance(label, str):
            spelling.setdefault(unicodedata.normalize("NFC", label), label)
    return [
        spelling[unicodedata.normalize("NFC", label)] if isinstance(label, str) else label for label in labels
    ]


def label_array(labels: list[Label]) -> np.ndarray:
    """An array of strings or integers, or of objects if either would change a label."""
    array = np.array(labels)
    return array if array.dtype.kind in "Uiu" and array.tolist() == labels else np.array(labels, object)


def described(labels: Sequence[Label]) -> str:
    """How many classes there are, and the first of them, as a `repr` shows it: "3 classes: 'a', 'b', 'c'"."""
    shown = ", ".join(map(repr, labels[:_SHOWN])) + (", …" if len(labels) > _SHOWN else "")
    return f"{len(labels)} {'class' if len(labels) == 1 else 'classes'}" + (f": {shown}" if shown else "")
