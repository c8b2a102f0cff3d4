"""Images with the boxes of the objects in them, as detection data sets hold them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from fsljax.data.folder_layouts import first_few
from fsljax.data.io.decode import flatten
from fsljax.detection.ops.boxes import check_boxes
from fsljax.errors import UserError

Picture = np.ndarray | Path | Callable[[], bytes]
"""uint8 `[height, width, 3]`, an image file, or a function that reads the content of one."""


@dataclass(frozen=True, eq=False)
class DetectionSet:
    """Images and their boxes; an image without boxes is background.

    Attributes:
      images: one `Picture` an image; files are read when they are asked for.
      sizes: int32 `[n, 2]`, heights and widths.
      boxes: float32 `[boxes of the image, 4]` an image, `[y_min, x_min, y_max, x_max]` in pixels.
      labels: int32 `[boxes of the image]`, indices into `class_names`.
      difficult: bool `[boxes of the image]`: objects that count neither as found nor as missed (VOC's
        difficult ones, COCO's crowds).
      class_names: one name a class.
      ids: one an image, each different.
      notes: sentences the user should read.
    """

    images: Sequence[Picture]
    sizes: np.ndarray
    boxes: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...]
    difficult: tuple[np.ndarray, ...]
    class_names: tuple[str, ...]
    ids: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def most_boxes(self) -> int:
        """Boxes of the image that has the most."""
        return max(map(len, self.boxes), default=0)

    def fingerprint(self) -> str:
        """SHA-256 of ids, sizes, classes and boxes: what episodes refer to. Pixels are not read."""
        digest = hashlib.sha256(repr((self.ids, self.class_names, self.sizes.tolist())).encode())
        for arrays in zip(self.boxes, self.labels, self.difficult, strict=True):
            for array in arrays:
                digest.update(repr(array.shape).encode() + np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def picture(self, number: int) -> Image.Image:
        """An image in RGB, as it is stored: boxes refer to pixels before any turning by EXIF.

        Raises:
          UserError: it is missing, damaged, or of another size than its annotation says.
        """
        stored = self.images[number]
        try:
            if isinstance(stored, np.ndarray):
                image = Image.fromarray(stored)
            else:
                image = Image.open(stored if isinstance(stored, Path) else io.BytesIO(stored()))
                image.load()
        except (OSError, ValueError, SyntaxError, RuntimeError, Image.DecompressionBombError) as error:
            raise UserError(f"The image {self.ids[number]} cannot be read: {error}.") from error
        height, width = self.sizes[number].tolist()
        if image.size != (width, height):
            raise UserError(
                f"The image {self.ids[number]} is {image.width} wide and {image.height} high, but its "
                f"annotation says {width} and {height}: its boxes would lie elsewhere. Correct it."
            )
        return flatten(image, "RGB")


class Annotated(NamedTuple):
    """One image as it is read, and what errors call it; fields as in `DetectionSet`, classes by name."""

    image: Picture
    id: str
    where: str
    size: tuple[int, int]
    boxes: Sequence[Sequence[float]]
    classes: Sequence[str]
    difficult: Sequence[bool]


def collect(
    annotated: Iterable[Annotated],
    class_names: Sequence[str],
    *,
    drop_bad_boxes: bool = False,
) -> DetectionSet:
    """Checks what was read and puts it together.

    Args:
      annotated: image by image.
      class_names: all classes there are, in their order.
      drop_bad_boxes: boxes outside their image or without area are left out, with a note, instead of
        being an error.

    Raises:
      UserError: a box lies outside its image, has no area or is not a number; a class or an image is
        unknown, or an id comes twice.
    """
    index = {name: number for number, name in enumerate(class_names)}
    read: list[Annotated] = []
    boxes, dropped = [], []
    for one in annotated:
        if unknown := [name for name in one.classes if name not in index]:
            raise UserError(
                f"{one.where} has an object of class {unknown[0]!r}, which is none of the {len(index)} "
                f"classes ({first_few(class_names)}). Correct it, or name the class too."
            )
        if drop_bad_boxes:
            good = [row for row, box in enumerate(one.boxes) if _is_good(box, one.size)]
            dropped += [one.where] * (len(one.boxes) - len(good))
            one = one._replace(
                boxes=[one.boxes[row] for row in good],
                classes=[one.classes[row] for row in good],
                difficult=[one.difficult[row] for row in good],
            )
        boxes.append(check_boxes(np.array(one.boxes, np.float64), *one.size, where=one.where))
        read.append(one)
    ids = tuple(one.id for one in read)
    left_out = f"Boxes outside their image or without area, left out: {len(dropped)} ({first_few(dropped)})."
    if len(set(ids)) != len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise UserError(f"The image {twice} comes twice. Take one of its annotations out.")
    return DetectionSet(
        images=[one.image for one in read],
        sizes=np.array([one.size for one in read], np.int32).reshape(-1, 2),
        boxes=tuple(boxes),
        labels=tuple(np.array([index[name] for name in one.classes], np.int32) for one in read),
        difficult=tuple(np.array(one.difficult, bool) for one in read),
        class_names=tuple(class_names),
        ids=ids,
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
        data = take_images(data, [row for row, of in enumerate(data.labels) if (number[of] >= 0).all()])
    labels = [number[of_image] for of_image in data.labels]
    stays = [of_image >= 0 if others != "difficult" else np.ones(len(of_image), bool) for of_image in labels]
    rows = range(len(data))
    return replace(
        data,
        boxes=tuple(data.boxes[row][stays[row]] for row in rows),
        labels=tuple(np.maximum(labels[row], 0)[stays[row]] for row in rows),
        difficult=tuple((data.difficult[row] | (labels[row] < 0))[stays[row]] for row in rows),
        class_names=tuple(names),
    )


def base_and_novel(data: DetectionSet, novel: Sequence[str]) -> tuple[DetectionSet, DetectionSet]:
    """The data set of all but the novel classes, in which those are background, and that of the novel ones.

    Raises:
      UserError: a name is unknown or comes twice.
    """
    base = [name for name in data.class_names if name not in set(novel)]
    return take_classes(data, base), take_classes(data, novel)


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


def _is_good(box: Sequence[float], size: tuple[int, int]) -> bool:
    try:
        check_boxes(np.array([box], np.float64), *size, where="")
    except UserError:
        return False
    return True
