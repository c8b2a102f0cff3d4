"""Arrays of pixels as images inside an HTML page."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Pixels as uint8, same shape; floats are taken to lie in [0, 1]."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    if images.dtype == bool or np.issubdtype(images.dtype, np.integer):
        raise TypeError(f"Images must be uint8 or floats in [0, 1], not {images.dtype}.")
    finite = np.nan_to_num(images.astype(np.float32))
    return np.round(255 * finite.clip(0, 1)).astype(np.uint8)


def are_drawings(images: np.ndarray) -> bool:
    """Whether images `[..., h, w, channel]` are bright ink on an empty ground rather than photographs.

    Such images are shown as ink on the page's own paper, dark on light or light on dark.
    """
    images = to_uint8(images)
    return images.shape[-1] == 1 and images.size > 0 and float(np.median(images)) < 26


def thumbnail(image: np.ndarray, side: int) -> Image.Image:
    """An image `[h, w, channel]` (1, 3 or 4 channels) as a picture of at most `side` pixels either way."""
    pixels = to_uint8(image)
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3, 4):
        raise ValueError(f"An image must be [height, width, 1, 3 or 4 channels], not {list(pixels.shape)}.")
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture


def data_uri(image: np.ndarray, *, side: int, drawing: bool = False) -> str:
    """An image `[h, w, channel]` as a PNG in a `data:` address.

    Args:
      image: uint8, or float in [0, 1].
      side: larger images are scaled down to this many pixels.
      drawing: make the ground transparent and the ink black (see `are_drawings`).
    """
    picture = thumbnail(image, side)
    if drawing:
        ink = Image.new("L", picture.size, 0)
        picture = Image.merge("LA", (ink, picture))
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
