"""What a box lies in on its way: a set that was read, ground truth, batches of images, and detections."""

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
"""uint8 `[height, width, 3]`, an image file, or a function that reads the content of one."""


@dataclass(frozen=True, eq=False)
class DetectionSet:
    """Images and their boxes, both upright, as people see them; an image without boxes is background.

    Images that EXIF turns are turned, and boxes and sizes are of the turned image.

    Attributes:
      images: files are read when they are asked for.
      sizes: int32 `[n, 2]`, heights and widths.
      boxes: `[boxes of the image, 4]` an image, `[y_min, x_min, y_max, x_max]` in pixels; float32 once they
        are checked.
      labels: int32 `[boxes of the image]`, indices into `class_names`.
      difficult: bool `[boxes of the image]`: objects that count neither as found nor as missed (VOC's
        difficult ones, COCO's crowds and those to be ignored).
      class_names: one name a class.
      ids: one an image, each different.
      sources: where the boxes of each image were read, as errors call it.
      notes: sentences the user should read.
      crowd: bool `[boxes of the image]`: those of the difficult ones that are boxes around many, by COCO's
        rule in tests; None: there is none.
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
        """An image in RGB, upright.

        Raises:
          UserError: it is missing, damaged, or of another size than its annotation says.
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
    """The error for an image whose annotation is of another size.

    Args:
      image: its name.
      upright: its (height, width) as people see it.
      stored: its (height, width) before it is turned by EXIF.
      annotated: the (height, width) that the annotation says.
    """
    if annotated == stored:
        return UserError(
            f"The image {image} is turned by its EXIF orientation: as people see it, it is {upright[1]} wide "
            f"and {upright[0]} high, but its annotation says {annotated[1]} and {annotated[0]}, as it is "
            "stored before turning. Boxes are of the image as it is seen: take the orientation out of it "
            "(exiftool -Orientation= FILE), or annotate the turned image."
        )
    return UserError(
        f"The image {image} is {upright[1]} wide and {upright[0]} high, but its annotation says "
        f"{annotated[1]} and {annotated[0]}: its boxes would lie elsewhere. Correct it."
    )


class GroundTruth(NamedTuple):
    """The objects of images, each image's filled up with zeros to as many rows; `…` are axes of images.

    Attributes:
      boxes: `[…, t, 4]`, `[y_min, x_min, y_max, x_max]` in pixels.
      labels: int `[…, t]`, classes from 0.
      mask: bool `[…, t]`, False for padding.
      difficult: bool `[…, t]`: in training, what lies on such an object is neither an object nor background;
        in tests it counts neither as found nor as missed. None: there is none.
      crowd: bool `[…, t]`, boxes around many, in tests: any detections that lie within are ignored. None:
        there is none.
    """

    boxes: Array
    labels: Array
    mask: Array
    difficult: Array | None = None
    crowd: Array | None = None

    def non_difficult_mask(self) -> Array:
        """Which objects are to be found, bool `[…, t]`."""
        return self.mask if self.difficult is None else self.mask & ~self.difficult

    def of_images(self) -> Iterator[GroundTruth]:
        """Of `[n, t, …]` image by image, without padding, as NumPy arrays `[t of the image, …]`."""
        parts = [None if part is None else np.asarray(part) for part in self]
        for number, mask in enumerate(np.asarray(self.mask)):
            yield GroundTruth(*(None if part is None else part[number][mask] for part in parts))  # type: ignore[arg-type]


class ImageBatch(NamedTuple):
    """Images and what is in them; `…` are axes of images.

    Attributes:
      images: `[…, height, width, channel]`, uint8, or float in [0, 1], each in the upper left corner, zeros
        right of it and below; None where they are yet to be read.
      ground_truth: of them.
      sizes: int32 `[…, 2]`, how high and wide each image is without the padding; None: there is none.
      rows: int32 `[…]`, which images of the data set, or which inputs of training, they are; None: of none.
    """

    images: Array | None
    ground_truth: GroundTruth
    sizes: Array | None = None
    rows: Array | None = None


class Detections(NamedTuple):
    """What was found in images, best first; `…` are axes of images.

    Attributes:
      boxes: `[…, n, 4]`.
      scores: `[…, n]`, 0 where not valid.
      labels: int `[…, n]`, classes from 0.
      valid: bool `[…, n]`, False for padding; None: there is none.
    """

    boxes: Array
    scores: Array
    labels: Array
    valid: Array | None = None

    def of_images(self) -> Iterator[Detections]:
        """Of `[images, n, …]` image by image, without padding, as NumPy arrays `[n of the image, …]`."""
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
    """Of one image, without padding: boxes `[t, 4]`, the rest `[t]`."""
    return GroundTruth(boxes, labels, np.ones(len(labels), bool), difficult, crowd)


def pad_ground_truth(
    boxes: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    difficult: Sequence[np.ndarray],
    crowd: Sequence[np.ndarray] | None = None,
    *,
    least: int = 0,
) -> GroundTruth:
    """Fills up the objects of images to as many rows as the image of most has.

    Args:
      boxes: `[boxes of the image, 4]` an image.
      labels: int `[boxes of the image]`.
      difficult: bool `[boxes of the image]`.
      crowd: bool `[boxes of the image]`; None: there is none.
      least: rows at least.

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
