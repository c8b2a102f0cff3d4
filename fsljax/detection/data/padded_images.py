"""Images that an application gives to a detector: scaled whole, and padded to a square."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from fsljax.data.io.decode import open_picture, upright
from fsljax.data.labels import check_order
from fsljax.data.user_images import ImageLike, Images, content_of, named_images, picture_of, readable
from fsljax.detection.config import Data
from fsljax.detection.ops.boxes import check_boxes
from fsljax.errors import UserError

GivenBoxes = np.ndarray | Iterable[npt.ArrayLike]
"""Boxes `[n, 4]`, or for each of n images `[4]` or `[m, 4]`."""


class PaddedImages(NamedTuple):
    """Images in the upper left corners of squares.

    Attributes:
      images: uint8 `[n, image_size, image_size, channels]`, zeros right of the image and below.
      sizes: float32 `[n, 2]`, height and width there.
      given_sizes: float32 `[n, 2]`, height and width as they were given.
    """

    images: np.ndarray
    sizes: np.ndarray
    given_sizes: np.ndarray

    @property
    def scales(self) -> np.ndarray:
        """float32 `[n, 4]`: boxes in the given images times these are boxes in the squares."""
        return np.tile(self.sizes / self.given_sizes, 2)


def prepare_padded(images: Images, data: Data) -> PaddedImages:
    """Brings images to a square and channels; the longer side becomes `image_size`.

    Args:
      images: as of `fsljax.data.user_images.prepare`.
      data: the `data` section of the network's config.

    Raises:
      UserError: if there are no images, or one cannot be read.
    """
    side = data.image_size
    channels: Literal[1, 3] = 1 if data.channels == 1 else 3
    squares, sizes, given_sizes = [], [], []
    for name, image in named_images(images, channels):
        with readable(name):
            picture = upright(_opened(image, name), channels)
        given_sizes.append((picture.height, picture.width))
        scale = side / max(picture.size)
        width, height = (max(1, round(length * scale)) for length in picture.size)
        if (width, height) != picture.size:
            picture = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
        square = np.zeros((side, side, channels), np.uint8)
        square[:height, :width] = np.asarray(picture).reshape(height, width, channels)
        squares.append(square)
        sizes.append((height, width))
    return PaddedImages(np.stack(squares), np.array(sizes, np.float32), np.array(given_sizes, np.float32))


def boxes_of_images(boxes: GivenBoxes, prepared: PaddedImages) -> list[np.ndarray]:
    """The boxes `[m, 4]` of each image, as an application gives them, in pixels of the images as given.

    Args:
      boxes: `n` boxes `[4]`, one in each image, or for each image several, `[m, 4]`.
      prepared: the n images.

    Raises:
      UserError: if they are none, or one is outside its image, less than a pixel in a direction, a fraction
        of the image, or of no finite numbers.
    """
    count = len(prepared.images)
    check_order(boxes, "boxes", "one or more for each image")
    try:
        rows = [np.asarray(row) for row in boxes]
    except (TypeError, ValueError):
        raise UserError(
            "The boxes are no sequence: give one [y_min, x_min, y_max, x_max] an image."
        ) from None
    if count == 1 and len(rows) == 4 and all(row.ndim == 0 for row in rows):
        rows = [np.stack(rows)]
    if len(rows) != count:
        raise UserError(f"There are {count} images, but boxes for {len(rows)}: give one or more for each.")
    checked = []
    for number, (of_image, size) in enumerate(zip(rows, prepared.given_sizes, strict=True)):
        several_boxes = of_image[None] if of_image.shape == (4,) else of_image
        _check_pixels(several_boxes, size, number)
        checked.append(check_boxes(several_boxes, float(size[0]), float(size[1]), f"image {number}"))
        if not len(checked[-1]):
            raise UserError(f"Image {number} has no box: leave it out, or give one.")
    return checked


def _check_pixels(boxes: np.ndarray, size: np.ndarray, number: int) -> None:
    """Raises a UserError for boxes that look like fractions, or that hold no pixel."""
    if boxes.ndim != 2 or boxes.shape[1:] != (4,) or boxes.dtype.kind not in "iuf":
        return  # which is told of elsewhere
    for box in boxes.astype(np.float64):
        sides = box[2:] - box[:2]
        if not np.isfinite(box).all() or ((sides <= 0).any() and np.abs(box).max() > 1):
            continue
        numbers = ", ".join(f"{value:g}" for value in box)
        if np.abs(box).max() <= 1 and size.max() > 1:
            raise UserError(
                f"The box [{numbers}] of image {number} seems to be given in fractions of the image: give "
                f"pixels, y times {size[0]:g} and x times {size[1]:g}."
            )
        if (sides < 1).any():
            raise UserError(
                f"The box [{numbers}] of image {number} is less than a pixel high or wide: boxes are [y_min, "
                "x_min, y_max, x_max] in pixels."
            )


def _opened(image: ImageLike, name: str) -> Image.Image:
    if isinstance(image, str | os.PathLike):
        return open_picture(image)
    if (content := content_of(image, name)) is not None:
        return open_picture(io.BytesIO(content), name)
    return picture_of(image, name)
