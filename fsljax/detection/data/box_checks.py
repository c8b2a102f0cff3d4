"""The boxes of an image as they are trained on: within it, none twice; what was done about others is told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from fsljax.detection.data.structures import DetectionSet
from fsljax.detection.ops.boxes import ROUNDING, check_boxes
from fsljax.errors import UserError, first_few

_LARGEST = 1e9  # pixels: no side of an image
_FRACTION = 1.0  # of a pixel: what is less is of rounding, and no error of whoever drew the box


@dataclass
class BoxNotes:
    """Where boxes were changed: the sources of the images, one a box.

    Attributes:
      dropped: bad ones that were left out.
      cut: those that left their image and were cut at its border.
      repeated: those that were there before.
      farthest: pixels by which a cut one left its image at most.
      pixels: whether any box reaches beyond the first pixel; else all are fractions.
      first: the source of the first box.
    """

    dropped: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    farthest: float = 0.0
    pixels: bool = False
    first: str = ""

    def sentences(self) -> tuple[str, ...]:
        """What the user should read.

        Raises:
          UserError: there are boxes, and all are fractions.
        """
        if self.first and not self.pixels:
            raise UserError(
                f"No box extends beyond the first pixel of its image, first {self.first}: boxes seem to be "
                "fractions of the image size. Give them in pixels."
            )
        return tuple(
            f"{what}: {len(sources)} ({first_few(sources)})."
            for what, sources in (
                ("Boxes outside their image or without area, skipped", self.dropped),
                (
                    f"Boxes beyond the border of their image, by up to {self.farthest:.3g} pixels, clipped",
                    self.cut,
                ),
                (
                    "Objects with the same class and box as another in their image, counted once",
                    self.repeated,
                ),
            )
            if sources
        )


def fitted(image: DetectionSet, told: BoxNotes, *, drop_bad_boxes: bool) -> DetectionSet:
    """One image whose boxes are float32 within it, and none of which comes twice.

    Args:
      image: as it was read, with boxes in float64.
      told: to which is added what was done.
      drop_bad_boxes: cut boxes at the border, however far they leave the image, and leave out those that
        cannot be used, instead of raising.

    Raises:
      UserError: a box leaves the image by a pixel or more, has no area, is a fraction or not a number.
    """
    boxes, source = image.boxes[0], image.sources[0]
    if not len(boxes):
        return replace(image, boxes=(np.zeros((0, 4), np.float32),))
    told.first = told.first or source
    told.pixels |= bool((boxes > 1).any())
    height, width = map(float, image.sizes[0])
    limits = np.array([height, width, height, width])
    usable = np.isfinite(boxes) & (np.abs(boxes) < _LARGEST)
    finite = np.where(usable, boxes, np.nan)
    with np.errstate(invalid="ignore"):
        beyond = np.maximum(-finite[:, :2], finite[:, 2:] - limits[2:]).max(axis=1)
        inside = ((finite[:, 2:] > 0) & (finite[:, :2] < limits[:2])).all(axis=1)
        inside &= (finite[:, 2:] > finite[:, :2]).all(axis=1)
    fraction = (boxes[:, 2:] <= 1).all(axis=1) & (boxes[:, 2:] % 1 != 0).any(axis=1) & usable.all(axis=1)
    if not drop_bad_boxes:
        inside &= beyond < _FRACTION
    finite[inside] = np.clip(finite[inside], 0, limits)
    if drop_bad_boxes:
        good = np.array([_is_good(box, height, width) for box in finite], bool) & ~fraction
    else:
        good = np.ones(len(finite), bool)
        _check(finite, fraction, height, width, source)
    cut = inside & good & (beyond > ROUNDING)
    told.dropped += [source] * int(np.sum(~good))
    told.cut += [source] * int(np.sum(cut))
    told.farthest = max([told.farthest, *beyond[cut].tolist()])
    kept = np.flatnonzero(good)
    checked = check_boxes(finite[kept], height, width, where=source)
    crowd = np.zeros(len(boxes), bool) if image.crowd is None else image.crowd[0]
    columns = image.labels[0][kept], image.difficult[0][kept], crowd[kept]
    once = _first_of_each(checked, *columns)
    told.repeated += [source] * (len(kept) - len(once))
    labels, difficult, crowd = (column[once] for column in columns)
    return replace(
        image,
        boxes=(checked[once],),
        labels=(labels,),
        difficult=(difficult,),
        crowd=(crowd,) if crowd.any() else None,
    )


def _check(boxes: np.ndarray, fraction: np.ndarray, height: float, width: float, source: str) -> None:
    check_boxes(boxes, height, width, where=source)
    if fraction.any():
        first = int(np.flatnonzero(fraction)[0])
        numbers = ", ".join(f"{value:g}" for value in boxes[first])
        raise UserError(
            f"Box {first} of {source}, [{numbers}], ends within the first pixel: it seems to be in fractions "
            "of the image size. Give boxes in pixels."
        )


def _first_of_each(boxes: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    rows = np.column_stack([boxes, *columns])
    return np.sort(np.unique(rows, axis=0, return_index=True)[1])


def _is_good(box: np.ndarray, height: float, width: float) -> bool:
    try:
        check_boxes(box[None], height, width, where="")
    except UserError:
        return False
    return True
