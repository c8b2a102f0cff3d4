"""Data structures of detection: data sets, ground truth, batches of images, and detections."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import numpy.typing as npt
from PIL import Image

from fsljax.data.io.decode import flatten, turn_upright
from fsljax.data.io.formats import open_image
from fsljax.errors import UserError

Array = jax.Array | np.ndarray
StoredImage = np.ndarray | Path | Callable[[], bytes]
"""uint8 `[height, width, 3]`, an image file, or a function that returns the contents of one."""


@dataclass(frozen=True, eq=False)
class DetectionSet:
    """Images and their boxes, both upright; an image without boxes is background.

    EXIF orientation is applied, and boxes and sizes refer to the upright image.

    Attributes:
      images: the images; files are read on access.
      sizes: int32 `[n, 2]`, heights and widths.
      boxes: for each image `[boxes of the image, 4]`, `[y_min, x_min, y_max, x_max]` in pixels; float32 once
        checked.
      labels: for each image int32 `[boxes of the image]`, indices into `class_names`.
      difficult: for each image bool `[boxes of the image]`, objects that count neither as found nor as missed
        (difficult ones in VOC, crowds and ignored ones in COCO).
      class_names: one name per class.
      ids: one unique id per image.
      sources: where the boxes of each image were read from, for error messages.
      notes: notes for the user.
      crowd: for each image bool `[boxes of the image]`, difficult boxes that are crowds in COCO's evaluation;
        None: no crowds.
    """

    images: Sequence[StoredImage]
    sizes: np.ndarray
    boxes: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...]
    difficult: tuple[np.ndarray, ...]
    class_names: tuple[str, ...]
    ids: tuple[str, ...]
    sources: tuple[str, ...]
    notes: tuple[str, ...] = ()
    crowd: tuple[np.ndarray, ...] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def most_boxes(self) -> int:
        """Number of boxes of the image that has the most."""
        return max(map(len, self.boxes), default=0)

    def fingerprint(self) -> str:
        """SHA-256 of ids, sizes, classes and boxes, which episodes refer to. Pixels are not read."""
        digest = hashlib.sha256(repr((self.ids, self.class_names, self.sizes.tolist())).encode())
        for arrays in zip(self.boxes, self.labels, self.difficult, strict=True):
            for array in arrays:
                digest.update(repr(array.shape).encode() + np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def picture(self, number: int) -> Image.Image:
        """An upright image in RGB.

        Raises:
          UserError: if it is missing, damaged, or differs in size from its annotation.
        """
        stored = self.images[number]
        try:
            if isinstance(stored, np.ndarray):
                image = Image.fromarray(stored)
            else:
                file = stored if isinstance(stored, Path) else io.BytesIO(stored())
                image = open_image(file)
                image.load()
        except (
            UserError, OSError, ValueError, SyntaxError, RuntimeError, Image.DecompressionBombError,
        ) as error:  # fmt: skip
            reason = str(error).rstrip(".")
            raise UserError(f"The image {self.ids[number]} cannot be read: {reason}.") from error
        turned = turn_upright(image)
        height, width = self.sizes[number].tolist()
        if turned.size != (width, height):
            raise other_size(
                self.ids[number], (turned.height, turned.width), image.size[::-1], (height, width)
            )
        return flatten(turned, "RGB")


def other_size(
    image: str, upright: tuple[int, int], stored: tuple[int, int], annotated: tuple[int, int]
) -> UserError:
    """The error for an image that differs in size from its annotation.

    Args:
      image: its name.
      upright: its (height, width) after applying EXIF orientation.
      stored: its (height, width) before applying EXIF orientation.
      annotated: the (height, width) in the annotation.
    """
    if annotated == stored:
        return UserError(
            f"The image {image} is rotated by its EXIF orientation: as displayed, it is {upright[1]} wide "
            f"and {upright[0]} high, but its annotation says {annotated[1]} and {annotated[0]}, its stored "
            "size before rotation. Boxes must fit the displayed image: remove the orientation (exiftool "
            "-Orientation= FILE), or annotate the rotated image."
        )
    return UserError(
        f"The image {image} is {upright[1]} wide and {upright[0]} high, but its annotation says "
        f"{annotated[1]} and {annotated[0]}, so its boxes would be misplaced. Correct it."
    )


class GroundTruth(NamedTuple):
    """The objects of images, padded with zeros to equally many rows per image; `…` are axes of images.

    Attributes:
      boxes: `[…, t, 4]`, `[y_min, x_min, y_max, x_max]` in pixels.
      labels: int `[…, t]`, classes from 0.
      mask: bool `[…, t]`, False for padding.
      difficult: bool `[…, t]`: in training, regions on such an object are neither object nor background; in
        evaluation it counts neither as found nor as missed. None: no such objects.
      crowd: bool `[…, t]`, crowds: in evaluation, all detections within them are ignored. None: no crowds.
    """

    boxes: Array
    labels: Array
    mask: Array
    difficult: Array | None = None
    crowd: Array | None = None

    def non_difficult_mask(self) -> Array:
        """Mask of the objects to be found, bool `[…, t]`."""
        return self.mask if self.difficult is None else self.mask & ~self.difficult

    def of_images(self) -> Iterator[GroundTruth]:
        """Splits `[n, t, …]` by image and removes padding: NumPy arrays `[t of the image, …]`."""
        parts = [None if part is None else np.asarray(part) for part in self]
        for number, mask in enumerate(np.asarray(self.mask)):
            yield GroundTruth(*(None if part is None else part[number][mask] for part in parts))  # type: ignore[arg-type]


class ImageBatch(NamedTuple):
    """Images and their objects; `…` are axes of images.

    Attributes:
      images: `[…, height, width, channel]`, uint8, or float in [0, 1], each in the upper left corner, padded
        with zeros on the right and below; None if not read yet.
      ground_truth: the objects in the images.
      sizes: int32 `[…, 2]`, height and width of each image without padding; None: there is no padding.
      rows: int32 `[…]`, positions of the images in the data set or the training inputs; None: they are from
        neither.
    """

    images: Array | None
    ground_truth: GroundTruth
    sizes: Array | None = None
    rows: Array | None = None


class Detections(NamedTuple):
    """Detections in images, by decreasing score; `…` are axes of images.

    Attributes:
      boxes: `[…, n, 4]`.
      scores: `[…, n]`, 0 where not valid.
      labels: int `[…, n]`, classes from 0.
      valid: bool `[…, n]`, False for padding; None: there is no padding.
    """

    boxes: Array
    scores: Array
    labels: Array
    valid: Array | None = None

    def of_images(self) -> Iterator[Detections]:
        """Splits `[images, n, …]` by image and removes padding: NumPy arrays `[n of the image, …]`."""
        boxes, scores, labels = map(np.asarray, self[:3])
        valid = np.ones(scores.shape, bool) if self.valid is None else np.asarray(self.valid)
        for number, mask in enumerate(valid):
            yield Detections(boxes[number][mask], scores[number][mask], labels[number][mask])


def ground_truth_of_image(
    boxes: np.ndarray,
    labels: np.ndarray,
    difficult: np.ndarray | None = None,
    crowd: np.ndarray | None = None,
) -> GroundTruth:
    """Ground truth of one image, without padding: boxes `[t, 4]`, the rest `[t]`."""
    return GroundTruth(boxes, labels, np.ones(len(labels), bool), difficult, crowd)


def pad_ground_truth(
    boxes: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    difficult: Sequence[np.ndarray],
    crowd: Sequence[np.ndarray] | None = None,
    *,
    least: int = 0,
) -> GroundTruth:
    """Pads the objects of images to the number of rows of the image that has the most.

    Args:
      boxes: for each image `[boxes of the image, 4]`.
      labels: for each image int `[boxes of the image]`.
      difficult: for each image bool `[boxes of the image]`.
      crowd: for each image bool `[boxes of the image]`; None: no crowds.
      least: minimum number of rows.

    Returns:
      NumPy arrays `[n, t, …]`: boxes float32, labels int32.
    """
    shape = len(boxes), max(max(map(len, boxes), default=0), least)

    def padded(rows: Sequence[np.ndarray], dtype: npt.DTypeLike, *ends: int) -> np.ndarray:
        filled = np.zeros((*shape, *ends), dtype)
        for place, row in zip(filled, rows, strict=True):
            place[: len(row)] = row
        return filled

    return GroundTruth(
        padded(boxes, np.float32, 4),
        padded(labels, np.int32),
        padded([np.ones(len(row), bool) for row in labels], bool),
        padded(difficult, bool),
        None if crowd is None else padded(crowd, bool),
    )
