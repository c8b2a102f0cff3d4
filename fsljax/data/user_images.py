"""Converts images given by an application to the input format of a network."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Literal, TypedDict, cast

import numpy as np
from PIL import Image

from fsljax.config import Data, modules
from fsljax.data.io.decode import Fitting, decode_bytes, decode_image, fit_image
from fsljax.data.labels import check_order
from fsljax.errors import UserError

ImageLike = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | np.ndarray
"""A path, the contents of an image file or an open file, a Pillow image, or an array; see `prepare`."""
Images = ImageLike | Iterable[ImageLike]

_ONE_IMAGE = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)
_BLACK_AND_WHITE = (
    "as uint8 they are almost black: give the images as bool (images.astype(bool)), or "
    "multiply them by 255. If they really are that dark, give them as floats, images / 255"
)


class _Options(TypedDict):
    image_size: int
    channels: Literal[1, 3]
    resampling: Image.Resampling
    cut_first: bool
    crop: float


def prepare(images: Images, data: Data) -> np.ndarray:
    """Converts images to the size and channels of a network.

    Args:
      images: paths, Pillow images, contents of image files or open files (one or several), or an array
        `[n, height, width]` or `[n, height, width, channel]` of uint8, of bool, or of floats from 0 to 1.
      data: the `data` section of the network's config.

    Returns:
      uint8 `[n, image_size, image_size, channels]`.

    Raises:
      UserError: if there are no images, or one cannot be read.
    """
    source = modules.find("fsljax.data.sources", data.name, field="data.name")
    # As the images that were trained on.
    fitting = getattr(source, "FITTING", Fitting()).as_asked(data.crop, data.interpolation)
    options: _Options = {
        "image_size": data.image_size,
        "channels": 1 if data.channels == 1 else 3,
        "resampling": fitting.resampling,
        "cut_first": fitting.cut_first,
        "crop": fitting.crop,
    }

    def fitted(image: ImageLike, name: str) -> np.ndarray:
        if isinstance(image, str | os.PathLike):
            return decode_image(image, **options)
        if (content := content_of(image, name)) is not None:
            return decode_bytes(content, **options, name=name)
        with readable(name):
            return fit_image(picture_of(image, name), **options)

    prepared = [fitted(image, name) for name, image in named_images(images, data.channels)]
    return np.stack(prepared)


def named_images(images: Images, channels: int) -> Iterator[tuple[str, ImageLike]]:
    """Iterates over images with their names in messages, "Image 3"; arrays are converted to NumPy.

    Args:
      images: as in `prepare`.
      channels: channels of the network.

    Raises:
      UserError: if there are no images, they are unordered, or an array looks like a single image or has
        channels first; after the last image, if all values are 0 or 1.
    """
    largest = count = 0
    for count, image in enumerate(_several(images, channels), start=1):
        name = f"Image {count - 1}"
        is_array = hasattr(image, "ndim") and not isinstance(image, _ONE_IMAGE)
        given = _as_array(image, name) if is_array else image
        largest = max(largest, _largest_byte(given))
        yield name, given
    if not count:
        raise UserError("There are no images: give at least one.")
    if largest == 1:
        raise UserError(f"The images hold only the values 0 and 1; {_BLACK_AND_WHITE}.")


def _several(images: Images, channels: int) -> Iterable[ImageLike]:
    check_order(images, "images", "an array, or a generator")
    if isinstance(images, _ONE_IMAGE) or hasattr(images, "read") or not isinstance(images, Iterable):
        return [cast(ImageLike, images)]
    if not hasattr(images, "ndim"):
        return images
    array = _as_array(images, "The images")
    shape = list(array.shape)
    if array.size and (array.ndim in (0, 2) or (array.ndim == 3 and array.shape[-1] in (1, 3, 4))):
        raise UserError(
            f"The images have the shape {shape}, which looks like a single image: give "
            "images[None], or a list of images."
        )
    if array.ndim == 3 and array.shape[0] in (3, 4) and channels == 3:
        raise UserError(
            f"The images have the shape {shape}, which may be one image whose channels come "
            f"first, or {shape[0]} greyscale images: give images.transpose(1, 2, 0)[None], or "
            "images[..., None]."
        )
    return array


def content_of(image: object, name: str) -> bytes | None:
    """Contents of an image given as bytes or as an open file; None if given otherwise.

    Raises:
      UserError: if an open file cannot be read, or was opened as text.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    read = getattr(image, "read", None)
    if read is None:
        return None
    try:
        if getattr(image, "seekable", bool)():
            image.seek(0)  # type: ignore[attr-defined]  # else what was read before would lack
        content = read()
    except (OSError, ValueError) as error:
        raise UserError(f"{name} is a file that cannot be read: {error}.") from error
    if not isinstance(content, bytes):
        raise UserError(
            f"{name} is a file that yields {type(content).__name__}: open it with open(path, 'rb')."
        )
    return content


def picture_of(image: object, name: str = "An image") -> Image.Image:
    """Converts an array `[height, width]` or `[height, width, channel]` to a Pillow image, if not one yet.

    Args:
      image: a Pillow image or an array.
      name: its name at the start of error messages.

    Raises:
      UserError: if it is neither, or has an invalid shape or type, or floats outside 0 … 1.
    """
    if isinstance(image, Image.Image):
        return _checked_picture(image, name)
    array = _as_array(image, name)
    if not array.ndim:
        raise UserError(
            f"{name} is of the type {type(image).__name__}: give a path, a Pillow image, the "
            "content of an image file, an open file, or an array."
        )
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)) or not array.size:
        turned = array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.size
        raise UserError(
            f"{name} has the shape {list(array.shape)}; it must be [height, width] or "
            "[height, width, channel] with 1, 3 or 4 channels"
            + (": its channels come first, give numpy.moveaxis(images, -3, -1)." if turned else ".")
        )
    if np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise UserError(
                f"{name} is a float array with values outside 0 … 1: divide it by the largest possible value."
            )
        array = np.round(255 * array).astype(np.uint8)
    elif array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8:
        raise UserError(f"{name} has the type {array.dtype}; it must be uint8, or floats from 0 to 1.")
    return Image.fromarray(array)


def _checked_picture(image: Image.Image, name: str) -> Image.Image:
    if 0 in image.size:
        raise UserError(f"{name} has no pixels: it is {image.width} wide and {image.height} high.")
    with readable(name):
        image.load()
        wide = image.mode.startswith("I") and getattr(image, "format", None) is None
        if wide and 0 < np.asarray(image).max() <= 255:
            raise UserError(
                f"{name} has 16 bits or more (Pillow's mode {image.mode}) and no value above "
                '255, so it would be almost black: give image.convert("L").'
            )
    return image


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Raises a UserError for an image that Pillow cannot read: truncated, closed, of an odd mode."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{name} cannot be read: {error}.") from error


def _as_array(given: object, name: str) -> np.ndarray:
    try:
        return np.asarray(given)
    except Exception as error:  # whatever another library says of its own arrays
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise UserError(f"{name} cannot be read as an array: {reason}.") from error


def _largest_byte(image: ImageLike) -> int:
    """The largest value of an image of bytes in memory; 255 of every other."""
    if isinstance(image, Image.Image):
        in_memory = image.mode == "L" and getattr(image, "format", None) is None and 0 not in image.size
        return int(image.getextrema()[1]) if in_memory else 255  # type: ignore[arg-type]
    if getattr(image, "dtype", None) == np.uint8:
        return int(np.max(np.asarray(image), initial=0))
    return 255
