"""Images that an application gives to a detector: scaled whole, and padded to a square."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from fsljax.data.io.decode import open_picture, upright
from fsljax.data.user_images import Images, picture_of, several
from fsljax.errors import UserError


class PaddedImages(NamedTuple):
    """Images in the upper left corners of squares.

    Attributes:
      images: uint8 `[n, image_size, image_size, channels]`, zeros right of the image and below.
      sizes: float32 `[n, 2]`, height and width there.
      given: float32 `[n, 2]`, height and width as they were given.
    """

    images: np.ndarray
    sizes: np.ndarray
    given: np.ndarray

    @property
    def scales(self) -> np.ndarray:
        """float32 `[n, 4]`: boxes in the given images times these are boxes in the squares."""
        return np.tile(self.sizes / self.given, 2)


def prepare_padded(images: Images, data: ConfigDict) -> PaddedImages:
    """Brings images to a square and channels; the longer side becomes `image_size`.

    Args:
      images: as of `fsljax.data.user_images.prepare`.
      data: the `data` section of the network's config.

    Raises:
      UserError: if there are no images, or one cannot be read.
    """
    side, channels = data.image_size, data.channels
    squares, sizes, given = [], [], []
    for image in several(images):
        picture = upright(_opened(image), channels)
        given.append((picture.height, picture.width))
        scale = side / max(picture.size)
        width, height = (max(1, round(length * scale)) for length in picture.size)
        if (width, height) != picture.size:
            picture = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
        square = np.zeros((side, side, channels), np.uint8)
        square[:height, :width] = np.asarray(picture).reshape(height, width, channels)
        squares.append(square)
        sizes.append((height, width))
    if not squares:
        raise UserError("There are no images: give one at least.")
    return PaddedImages(np.stack(squares), np.array(sizes, np.float32), np.array(given, np.float32))


def _opened(image: Any) -> Image.Image:
    if isinstance(image, str | os.PathLike):
        return open_picture(image)
    return image if isinstance(image, Image.Image) else picture_of(np.asarray(image))
