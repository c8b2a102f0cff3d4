"""Sets put together from what was read, divided and joined."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from fsljax.detection.data.box_checks import BoxNotes, fitted
from fsljax.detection.data.orientation import turn_notes
from fsljax.detection.data.structures import DetectionSet, StoredImage
from fsljax.errors import UserError, first_few


def one_image(
    image: StoredImage,
    identity: str,
    source: str,
    size: tuple[int, int],
    boxes: Sequence[Sequence[float]],
    classes: Sequence[str],
    difficult: Sequence[bool],
    crowd: Sequence[bool] | None = None,
) -> DetectionSet:
    """A set of one image as it is read: its boxes are not checked, its classes are those that it names.

    Args:
      image: of it.
      identity: its id.
      source: where it was read, as errors call it.
      size: (height, width), upright.
      boxes: `[y_min, x_min, y_max, x_max]` of each object.
      classes: the name of each object's class.
      difficult: of each object.
      crowd: of each object; such a one is difficult too. None: there is none.
    """
    names = tuple(dict.fromkeys(classes))
    crowds = np.zeros(len(boxes), bool) if crowd is None else np.array(crowd, bool)
    return DetectionSet(
        images=[image],
        sizes=np.array([size], np.int32),
        boxes=(np.array(boxes, np.float64).reshape(-1, 4),),
        labels=(np.array([names.index(name) for name in classes], np.int32),),
        difficult=(np.array(difficult, bool) | crowds,),
        class_names=names,
        ids=(identity,),
        sources=(source,),
        crowd=(crowds,) if crowds.any() else None,
    )


def collect(
    images: Iterable[DetectionSet],
    class_names: Sequence[str],
    *,
    drop_bad_boxes: bool = False,
    notes: Sequence[str] = (),
) -> DetectionSet:
    """Checks what was read and puts it together.

    Boxes that leave their image by a part of a pixel are cut at its border, and objects of one class with the
    same box are one; notes say so.

    Args:
      images: as `one_image` gives them.
      class_names: all classes there are, in their order.
      drop_bad_boxes: boxes that leave their image farther are cut, too, and boxes outside it or without area
        are left out, with notes, instead of being errors.
      notes: that come before those on images and boxes.

    Raises:
      UserError: a box leaves its image, has no area or is not a number; all boxes are fractions; a
        class or an image is unknown, or an id comes twice; a size is that of an image before EXIF turns it.
    """
    index = {name: number for number, name in enumerate(class_names)}
    checked: list[DetectionSet] = []
    told = BoxNotes()
    for image in images:
        if unknown := [name for name in image.class_names if name not in index]:
            raise UserError(
                f"{image.sources[0]} has an object of class {unknown[0]!r}, which is not one of the "
                f"{len(index)} classes ({first_few(class_names)}). Correct it, or add the class."
            )
        numbers = np.array([index[name] for name in image.class_names], np.int32)
        image = replace(image, labels=(numbers[image.labels[0]],))
        checked.append(fitted(image, told, drop_bad_boxes=drop_bad_boxes))
    ids = tuple(image.ids[0] for image in checked)
    if len(set(ids)) != len(ids):
        twice = next(name for name, count in Counter(ids).items() if count > 1)
        places = [image.sources[0] for image in checked if image.ids[0] == twice]
        raise UserError(
            f"The image {twice} is listed twice ({first_few(places)}). Remove one of its annotations, or "
            "its second line in the list."
        )
    stored, sizes = [image.images[0] for image in checked], [image.sizes for image in checked]
    sizes_of_all = np.concatenate([np.zeros((0, 2), np.int32), *sizes])
    crowd = tuple(
        np.zeros(len(image.labels[0]), bool) if image.crowd is None else image.crowd[0] for image in checked
    )
    return DetectionSet(
        images=stored,
        sizes=sizes_of_all,
        boxes=tuple(image.boxes[0] for image in checked),
        labels=tuple(image.labels[0] for image in checked),
        difficult=tuple(image.difficult[0] for image in checked),
        class_names=tuple(class_names),
        ids=ids,
        sources=tuple(image.sources[0] for image in checked),
        notes=(
            *notes,
            *_alike(class_names),
            *told.sentences(),
            *turn_notes(stored, sizes_of_all.tolist()),
        ),
        crowd=crowd if any(of_image.any() for of_image in crowd) else None,
    )


def take_images(data: DetectionSet, rows: Sequence[int] | np.ndarray) -> DetectionSet:
    """The images at these positions."""
    rows = [int(row) for row in rows]
    return replace(
        data,
        images=[data.images[row] for row in rows],
        sizes=data.sizes[rows].reshape(-1, 2),
        boxes=tuple(data.boxes[row] for row in rows),
        labels=tuple(data.labels[row] for row in rows),
        difficult=tuple(data.difficult[row] for row in rows),
        ids=tuple(data.ids[row] for row in rows),
        sources=tuple(data.sources[row] for row in rows),
        crowd=None if data.crowd is None else tuple(data.crowd[row] for row in rows),
    )


def join(first: DetectionSet, second: DetectionSet) -> DetectionSet:
    """The images of both, such as those of VOC 2007 and 2012.

    Raises:
      UserError: their classes differ, or an image is in both.
    """
    if first.class_names != second.class_names:
        raise UserError(
            "Data sets with different classes cannot be combined: select the same classes of both."
        )
    if both := sorted(set(first.ids) & set(second.ids)):
        raise UserError(f"The image {both[0]} is in both data sets: remove it from one.")
    return replace(
        first,
        images=[*first.images, *second.images],
        sizes=np.concatenate([first.sizes, second.sizes]),
        boxes=first.boxes + second.boxes,
        labels=first.labels + second.labels,
        difficult=first.difficult + second.difficult,
        ids=first.ids + second.ids,
        sources=first.sources + second.sources,
        notes=first.notes + second.notes,
        crowd=_crowds(first) + _crowds(second) if first.crowd or second.crowd else None,
    )


def take_classes(
    data: DetectionSet,
    names: Sequence[str],
    *,
    others: Literal["forget", "difficult", "leave_out"] = "forget",
) -> DetectionSet:
    """The data set of some classes alone, numbered in the order of `names`.

    Args:
      data: of all classes.
      names: of the classes that stay.
      others: what becomes of the other classes' boxes: "forget" takes them for background, "leave_out"
        leaves their images out, and "difficult" makes them difficult boxes of class 0, for training, in
        which what lies on a difficult box of any class is neither object nor background.

    Raises:
      UserError: a name is unknown or comes twice.
    """
    check_names(names, data.class_names)
    kept = [data.class_names.index(name) for name in names]
    number = np.full(data.num_classes, -1, np.int32)
    number[kept] = np.arange(len(kept))
    if others == "leave_out":
        data = take_images(
            data, [row for row, labels in enumerate(data.labels) if (number[labels] >= 0).all()]
        )
    renumbered = [number[labels] for labels in data.labels]
    stays = [labels >= 0 if others != "difficult" else np.ones(len(labels), bool) for labels in renumbered]
    rows = range(len(data))
    return replace(
        data,
        boxes=tuple(data.boxes[row][stays[row]] for row in rows),
        labels=tuple(np.maximum(renumbered[row], 0)[stays[row]] for row in rows),
        difficult=tuple((data.difficult[row] | (renumbered[row] < 0))[stays[row]] for row in rows),
        crowd=None if data.crowd is None else tuple(data.crowd[row][stays[row]] for row in rows),
        class_names=tuple(names),
    )


def classes_of(data: DetectionSet, names: Sequence[str]) -> DetectionSet | None:
    """`take_classes`, or None where the data do not know each of the classes."""
    return take_classes(data, names) if set(names) <= set(data.class_names) else None


def images_of_classes(data: DetectionSet) -> list[np.ndarray]:
    """In which images, int64, each class has a box that is not difficult."""
    rows: list[list[int]] = [[] for _ in data.class_names]
    for row, (labels, difficult) in enumerate(zip(data.labels, data.difficult, strict=True)):
        for label in np.unique(labels[~difficult]):
            rows[label].append(row)
    return [np.array(of_class, np.int64) for of_class in rows]


def check_names(names: Sequence[str], known: Collection[str]) -> None:
    """Raises UserError unless every name is known and comes once."""
    for name in names:
        if name not in known:
            raise UserError(
                f"There is no class {name!r} among the {len(known)} classes: {first_few(known, 20)}. "
                "Correct it."
            )
    if len(set(names)) != len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise UserError(f"The class {twice!r} is named twice. Name each once.")


def _crowds(data: DetectionSet) -> tuple[np.ndarray, ...]:
    return data.crowd or tuple(np.zeros(len(labels), bool) for labels in data.labels)


def _alike(class_names: Sequence[str]) -> tuple[str, ...]:
    """A note on names that people would take for one."""
    spellings: dict[str, list[str]] = {}
    for name in class_names:
        plain = "".join(unicodedata.normalize("NFKC", name).casefold().split())
        spellings.setdefault(plain, []).append(name)
    alike = [" and ".join(map(repr, names)) for names in spellings.values() if len(names) > 1]
    if not alike:
        return ()
    return (
        "Class names that differ only in case or spaces are treated as different classes: "
        f"{first_few(alike)}.",
    )
