"""Labels that an application gives to what it enrols: strings or integers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fsljax.errors import UserError

Label = str | int


def listed_labels(labels: Any, count: int, of: str = "image") -> list[Label]:
    """One label for each image, or of whatever else they are, as Python's own strings and integers."""
    if hasattr(labels, "tolist"):
        labels = labels.tolist()
    one_for_all = isinstance(labels, str | bytes) or not isinstance(labels, Iterable)
    listed = [labels] * count if one_for_all else list(labels)
    if len(listed) != count:
        many = "boxes" if of == "box" else f"{of}s"
        raise UserError(f"{count} {many} were given with {len(listed)} labels: one label for each {of}.")
    listed = [label.item() if isinstance(label, np.generic) else label for label in listed]
    for number, label in enumerate(listed):
        if isinstance(label, bool) or not isinstance(label, str | int):
            raise UserError(f"The label of {of} {number} is {label!r}; it must be a string or an integer.")
    return listed


def label_array(labels: list[Label]) -> np.ndarray:
    """An array of strings or of integers, or of objects where one of these would change a label."""
    array = np.array(labels)
    return array if array.dtype.kind in "Uiu" and array.tolist() == labels else np.array(labels, object)
