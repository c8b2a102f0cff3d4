"""Images that an application gives, brought to what a network was trained with."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Literal, TypedDict

import numpy as np
from PIL import Image

from fsljax.config import Data, modules
from fsljax.data.io.decode import Fitting, decode_image, fit_image
from fsljax.errors import UserError

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray
Images = ImageLike | Iterable[ImageLike]


class _Options(TypedDict):
    image_size: int
    channels: Literal[1, 3]
    resampling: Image.Resampling
    cut_first: bool


def prepare(images: Images, data: Data) -> np.ndarray:
    """Brings images to size and channels.

    Args:
      images: paths, Pillow images (one of these, or several), or an array `[n, height, width]` or
        `[n, height, width, channel]` of uint8 or of floats from 0 to 1.
      data: the `data` section of the network's config.

    Returns:
      uint8 `[n, image_size, image_size, channels]`.

    Raises:
      UserError: if there are no images, or one cannot be read.
    """
    source = modules.find("fsljax.data.sources", data.name, field="data.name")
    fitting = getattr(source, "FITTING", Fitting())  # as the images that were trained on
    prepared = [_fitted(image, data, fitting) for image in several(images)]
    if not prepared:
        raise UserError("There are no images: give one at least.")
    return np.stack(prepared)


def several(images: Images) -> Iterable[ImageLike]:
    """The images one by one.

    Raises:
      UserError: if an array looks like one image.
    """
    if isinstance(images, str | os.PathLike) or not isinstance(images, Iterable):
        return [images]
    if not hasattr(images, "ndim"):
        return images
    array = np.asarray(images)
    if array.size and (array.ndim in (0, 2) or (array.ndim == 3 and array.shape[-1] in (1, 3, 4))):
        raise UserError(
            f"The images have the shape {list(array.shape)}, and this looks like one image: "
            "give images[None], or a list of images."
        )
    return array


def _fitted(image: ImageLike, data: Data, fitting: Fitting) -> np.ndarray:
    options: _Options = {
        "image_size": data.image_size,
        "channels": 1 if data.channels == 1 else 3,
        "resampling": fitting.resampling,
        "cut_first": fitting.cut_first,
    }
    if isinstance(image, str | os.PathLike):
        return decode_image(image, **options)
    picture = image if isinstance(image, Image.Image) else picture_of(np.asarray(image))
    return fit_image(picture, **options)


def picture_of(array: np.ndarray) -> Image.Image:
    """An array `[height, width]` or `[height, width, channel]` as a Pillow image.

    Raises:
      UserError: if it is none: another shape or type, or floats outside 0 … 1.
    """
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)) or not array.size:
        raise UserError(
            f"An image has the shape {list(array.shape)}; it must be [height, width] or "
            "[height, width, channel] with 1, 3 or 4 channels."
        )
    if np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise UserError(
                "An image of floats has values outside 0 … 1: divide by its largest possible value."
            )
        array = np.round(255 * array).astype(np.uint8)
    elif array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8:
        raise UserError(f"An image has the type {array.dtype}; it must be uint8, or floats from 0 to 1.")
    return Image.fromarray(array)
