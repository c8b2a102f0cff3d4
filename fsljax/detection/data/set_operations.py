"""Sets put together from what was read, divided and joined."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from fsljax.detection.data.structures import DetectionSet, StoredImage
from fsljax.detection.ops.boxes import check_boxes
from fsljax.errors import UserError, first_few


def one_image(
    image: StoredImage,
    identity: str,
    source: str,
    size: tuple[int, int],
    boxes: Sequence[Sequence[float]],
    classes: Sequence[str],
    difficult: Sequence[bool],
) -> DetectionSet:
    """A set of one image as it is read: its boxes are not checked, its classes are those that it names.

    Args:
      image: of it.
      identity: its id.
      source: where it was read, as errors call it.
      size: (height, width).
      boxes: `[y_min, x_min, y_max, x_max]` of each object.
      classes: the name of each object's class.
      difficult: of each object.
    """
    names = tuple(dict.fromkeys(classes))
    return DetectionSet(
        images=[image],
        sizes=np.array([size], np.int32),
        boxes=(np.array(boxes, np.float64).reshape(-1, 4),),
        labels=(np.array([names.index(name) for name in classes], np.int32),),
        difficult=(np.array(difficult, bool),),
        class_names=names,
        ids=(identity,),
        sources=(source,),
    )


def collect(
    images: Iterable[DetectionSet],
    class_names: Sequence[str],
    *,
    drop_bad_boxes: bool = False,
) -> DetectionSet:
    """Checks what was read and puts it together.

    Args:
      images: as `one_image` gives them.
      class_names: all classes there are, in their order.
      drop_bad_boxes: boxes outside their image or without area are left out, with a note, instead of
        being an error.

    Raises:
      UserError: a box lies outside its image, has no area or is not a number; a class or an image is
        unknown, or an id comes twice.
    """
    index = {name: number for number, name in enumerate(class_names)}
    checked: list[DetectionSet] = []
    dropped: list[str] = []
    for image in images:
        if unknown := [name for name in image.class_names if name not in index]:
            raise UserError(
                f"{image.sources[0]} has an object of class {unknown[0]!r}, which is none of the "
                f"{len(index)} classes ({first_few(class_names)}). Correct it, or name the class too."
            )
        if drop_bad_boxes:
            good = np.array([_is_good(box, image) for box in image.boxes[0]], bool)
            dropped += [image.sources[0]] * int(np.sum(~good))
            image = _take_boxes(image, good)
        checked.append(_checked(image, index))
    ids = tuple(image.ids[0] for image in checked)
    left_out = f"Boxes outside their image or without area, left out: {len(dropped)} ({first_few(dropped)})."
    if len(set(ids)) != len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise UserError(f"The image {twice} comes twice. Take one of its annotations out.")
    return DetectionSet(
        images=[image.images[0] for image in checked],
        sizes=np.concatenate([np.zeros((0, 2), np.int32), *(image.sizes for image in checked)]),
        boxes=tuple(image.boxes[0] for image in checked),
        labels=tuple(image.labels[0] for image in checked),
        difficult=tuple(image.difficult[0] for image in checked),
        class_names=tuple(class_names),
        ids=ids,
        sources=tuple(image.sources[0] for image in checked),
        notes=(left_out,) if dropped else (),
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
    )


def join(first: DetectionSet, second: DetectionSet) -> DetectionSet:
    """The images of both, such as those of VOC 2007 and 2012.

    Raises:
      UserError: their classes differ, or an image is in both.
    """
    if first.class_names != second.class_names:
        raise UserError("Two data sets whose classes differ cannot be put together: take the same of both.")
    if both := sorted(set(first.ids) & set(second.ids)):
        raise UserError(f"The image {both[0]} is in both of the data sets: take it out of one.")
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
        class_names=tuple(names),
    )


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


def _checked(image: DetectionSet, index: dict[str, int]) -> DetectionSet:
    """One image with its boxes as they are trained on, and labels by the index of all classes."""
    height, width = image.sizes[0].tolist()
    numbers = np.array([index[name] for name in image.class_names], np.int32)
    return replace(
        image,
        boxes=(check_boxes(image.boxes[0], height, width, where=image.sources[0]),),
        labels=(numbers[image.labels[0]],),
    )


def _take_boxes(image: DetectionSet, good: np.ndarray) -> DetectionSet:
    return replace(
        image,
        boxes=(image.boxes[0][good],),
        labels=(image.labels[0][good],),
        difficult=(image.difficult[0][good],),
    )


def _is_good(box: np.ndarray, image: DetectionSet) -> bool:
    height, width = image.sizes[0].tolist()
    try:
        check_boxes(box[None], height, width, where="")
    except UserError:
        return False
    return True
