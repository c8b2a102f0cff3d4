"""Base classes held out in folds: a detector is chosen by episodes of these, never by the novel classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fsljax.detection.config import Data
from fsljax.detection.data.set_operations import images_of_classes, join, take_classes, take_images
from fsljax.detection.data.structures import DetectionSet
from fsljax.errors import UserError, first_few


def hold_out(
    data: Data, train: DetectionSet, test: DetectionSet, names: Sequence[str]
) -> tuple[DetectionSet, tuple[str, ...], DetectionSet, DetectionSet]:
    """Takes the classes of a fold out of training, and every image that holds one of them.

    Classes are dealt to the folds in turn, those in most images first, equal ones by name. What decides is in
    how many images of both splits they have an object that is not difficult.

    Args:
      data: the config's section, whose `folds`, `fold` and `fold_images` say which.
      train, test: both splits, of all classes.
      names: of the base classes.

    Returns:
      The training images that are left; the base classes that still have an object in them; the images of
      both splits that hold a class of the fold, with boxes of that fold alone; and the same images with boxes
      of the base classes that are left.

    Raises:
      UserError: there is no such fold, or no class is left for it or beside it.
    """
    if not 0 <= data.fold < data.folds:
        raise UserError(
            f"config.data.fold is {data.fold} of {data.folds} folds (config.data.folds): give 0 to "
            f"{data.folds - 1}."
        )
    both = _joined(train, test)
    counts = _images_of(both)
    able = sorted(
        (name for name in names if counts.get(name, 0) >= data.fold_images),
        key=lambda name: (-counts[name], name),
    )
    held = tuple(able[data.fold :: data.folds])
    if not held:
        raise UserError(
            f"Only {len(able)} base classes are in {data.fold_images} images or more "
            f"(config.data.fold_images), too few for fold {data.fold} of {data.folds}: ask for fewer folds "
            "or images."
        )
    left = _without(train, held)
    still = _images_of(left)
    rest = tuple(name for name in names if name not in held and still.get(name))
    if not rest:
        raise UserError(
            f"Every training image that has objects holds a class of fold {data.fold} ({first_few(held)}): "
            "nothing is left to train on. Ask for more folds (config.data.folds)."
        )
    lost = [name for name in names if name not in held and name not in rest]
    notes = [f"Held out as fold {data.fold} of {data.folds}: {', '.join(held)}."]
    if lost:
        notes.append(
            f"{len(lost)} classes have no training images without these, and are skipped: {first_few(lost)}."
        )
    whole = take_images(both, _holding(both, held))
    return (
        replace(left, notes=(*left.notes, *notes)),
        rest,
        take_classes(whole, held),
        take_classes(whole, rest),
    )


def _joined(train: DetectionSet, test: DetectionSet) -> DetectionSet:
    """The images of both splits, of which one may hold some of the other."""
    there = set(train.ids)
    new = [row for row, name in enumerate(test.ids) if name not in there]
    names = tuple(dict.fromkeys(train.class_names + test.class_names))
    return join(_numbered(train, names), _numbered(take_images(test, new), names))


def _numbered(data: DetectionSet, names: tuple[str, ...]) -> DetectionSet:
    number = np.array([names.index(name) for name in data.class_names], np.int32)
    return replace(data, class_names=names, labels=tuple(number[labels] for labels in data.labels))


def _images_of(data: DetectionSet) -> dict[str, int]:
    """In how many images each class has an object that is not difficult."""
    return dict(zip(data.class_names, map(len, images_of_classes(data)), strict=True))


def _holding(data: DetectionSet, names: Sequence[str]) -> list[int]:
    numbers = [data.class_names.index(name) for name in names if name in data.class_names]
    return [row for row, labels in enumerate(data.labels) if np.isin(labels, numbers).any()]


def _without(data: DetectionSet, names: Sequence[str]) -> DetectionSet:
    held = set(_holding(data, names))
    return take_images(data, [row for row in range(len(data)) if row not in held])
