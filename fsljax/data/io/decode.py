"""Image files of any usual kind as uint8 arrays of one size."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.Image import Resampling, Transpose

from fsljax.data.io.fitting import USUAL, Fitting, before_crop, centre, resized_centre
from fsljax.data.io.formats import open_image
from fsljax.errors import UserError

# `PIL.ImageOps.exif_transpose` rewrites the EXIF data, which fails where any other tag is damaged, and
# copies the images that stand upright.
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


_BY_ANOTHER_MODE = {"LAB": "RGB", "La": "LA"}  # Pillow converts them to no others


def decode_image(
    path: str | os.PathLike[str],
    *,
    image_size: int | tuple[int, int],
    channels: Literal[1, 3] = 3,
    resampling: Resampling = Resampling.BICUBIC,
    cut_first: bool = False,
    crop: float = 0.0,
) -> np.ndarray:
    """Decodes one image file, whatever its format and colour mode.

    The image is turned upright by its EXIF orientation, transparency is laid on white, 16-bit grey is
    scaled to 8 bits, and of animations the first frame is taken. The largest centred part of the
    wanted aspect is resized by an antialiased filter: the shorter side becomes `image_size` and what
    the longer one has in excess is cut off evenly.

    Args:
      path: a JPEG, PNG, WebP, BMP, GIF or TIFF file, AVIF where Pillow was built with it, HEIC where
        pillow-heif is installed; recognised by content.
      image_size: side of the square result, or its (height, width).
      channels: 3 gives RGB, 1 gives luminance (ITU-R 601).
      resampling: Pillow's filter.
      cut_first: the centred part is cut out before it is resized, so that what is cut off has no
        influence on its border: what "centre square, resized" means in evaluation protocols.
      crop: above 0, as timm and torchvision evaluate: the shorter side becomes ⌊image_size / crop⌋, then
        the centre is cut out, so that this share of it is kept; `cut_first` says nothing then.

    Returns:
      uint8 `[height, width, channels]`.

    Raises:
      UserError: the file is missing, damaged, not an image, or a decompression bomb (Pillow's limit).
    """
    try:
        return _decode(path, image_size, channels, Fitting(resampling, cut_first, crop))
    except Exception as error:
        raise UserError(f"The image {os.fspath(path)} cannot be read: {_reason(error)}.") from error


def decode_bytes(
    encoded: bytes,
    *,
    image_size: int | tuple[int, int],
    channels: Literal[1, 3] = 3,
    resampling: Resampling | int = Resampling.BICUBIC,
    cut_first: bool = False,
    crop: float = 0.0,
    name: str = "The image",
) -> np.ndarray:
    """Decodes the content of an image file; see `decode_image`; `name` begins its errors.

    Raises:
      UserError: the content is damaged, not an image, or a decompression bomb.
    """
    try:
        fitting = Fitting(Resampling(resampling), cut_first, crop)
        return _decode(io.BytesIO(encoded), image_size, channels, fitting)
    except Exception as error:
        raise UserError(f"{name} cannot be decoded: {_reason(error)}.") from error


def decode_images(
    paths: Sequence[str | os.PathLike[str]],
    *,
    image_size: int,
    channels: Literal[1, 3] = 3,
    fitting: Fitting = USUAL,
) -> tuple[np.ndarray, dict[int, str]]:
    """Decodes many image files, one thread a processor, into one array.

    Args:
      paths: n image files.
      image_size, channels: as for `decode_image`.
      fitting: the rest of its arguments.

    Returns:
      Images uint8 `[n - unreadable, image_size, image_size, channels]` in the order of `paths`, and
      why each unreadable one is left out, by its position in `paths`.

    Raises:
      UserError: the array would not fit into the memory that is available.
    """
    shape = (len(paths), image_size, image_size, channels)
    _check_memory(shape)
    images = np.empty(shape, np.uint8)

    def decode_into(row: int) -> str | None:
        try:
            images[row] = _decode(paths[row], image_size, channels, fitting)
        except MemoryError:
            raise
        except Exception as error:
            return _reason(error)
        return None

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        reasons = list(threads.map(decode_into, range(len(paths))))
    unreadable = {row: reason for row, reason in enumerate(reasons) if reason is not None}
    readable = [row for row in range(len(paths)) if row not in unreadable]
    # Row by row, because indexing with `readable` would hold the images twice.
    for new, old in enumerate(readable):
        if new != old:
            images[new] = images[old]
    return images[: len(readable)], unreadable


def _decode(
    file: str | os.PathLike[str] | io.BytesIO,
    image_size: int | tuple[int, int],
    channels: Literal[1, 3],
    fitting: Fitting,
) -> np.ndarray:
    opened = file if isinstance(file, io.BytesIO) else Path(file)
    with open_image(opened) as image:
        # JPEG alone can decode to a fraction of its size; twice the result leaves the filter its work.
        longest = before_crop(max(np.broadcast_to(image_size, 2).tolist()), fitting.crop)
        image.draft(None, (2 * longest,) * 2)
        image.load()
        return fit_image(image, image_size=image_size, channels=channels, **fitting._asdict())


def open_picture(file: str | os.PathLike[str] | io.BytesIO, name: str | None = None) -> Image.Image:
    """An image file at its full size, with its own mode; see `upright`.

    Args:
      file: its path, or its content.
      name: that an error begins with; None: the path.

    Raises:
      UserError: the file is missing, damaged, not an image, or a decompression bomb (Pillow's limit).
    """
    with _opened(file, name) as image:
        image.load()
        return image


def open_reduced(
    file: str | os.PathLike[str] | io.BytesIO, least: int, name: str | None = None
) -> tuple[Image.Image, tuple[int, int]]:
    """An image file, of JPEG decoded to a fraction of its size, and its own (height, width), upright.

    Args:
      file: its path, or its content.
      least: pixels that the shorter side keeps, where it has so many.
      name: that an error begins with; None: the path.

    Raises:
      UserError: as `open_picture`.
    """
    with _opened(file, name) as image:
        size = upright_size(image)
        image.draft(None, (least, least))
        image.load()
        return image, size


@contextmanager
def _opened(file: str | os.PathLike[str] | io.BytesIO, name: str | None) -> Iterator[Image.Image]:
    opened = file if isinstance(file, io.BytesIO) else Path(file)
    try:
        with open_image(opened) as image:
            yield image
    except Exception as error:
        raise UserError(f"{name or f'The image {opened}'} cannot be read: {_reason(error)}.") from error


def upright(image: Image.Image, channels: Literal[1, 3]) -> Image.Image:
    """An opened image turned by its EXIF orientation, without transparency, as grey or RGB of 8 bits."""
    return flatten(turn_upright(image), "L" if channels == 1 else "RGB")


def fit_image(
    image: Image.Image,
    *,
    image_size: int | tuple[int, int],
    channels: Literal[1, 3] = 3,
    resampling: Resampling = Resampling.BICUBIC,
    cut_first: bool = False,
    crop: float = 0.0,
) -> np.ndarray:
    """Brings an opened image to size and channels; see `decode_image`.

    Args:
      image: of any mode.
      image_size, channels, resampling, cut_first, crop: as for `decode_image`.

    Returns:
      uint8 `[height, width, channels]`.
    """
    height, width = np.broadcast_to(image_size, 2).tolist()
    flat = upright(image, channels)
    box: tuple[float, float, float, float] = centre(flat.size, width / height)
    if crop:
        box = resized_centre(flat.size, (width, height), crop)
    elif cut_first:
        flat, box = flat.crop(centre(flat.size, width / height)), (0, 0, box[2] - box[0], box[3] - box[1])
    resized = flat.resize((width, height), resampling, box=box, reducing_gap=3.0)
    return np.asarray(resized).reshape(height, width, channels)


def exif_orientation(image: Image.Image) -> int:
    """How an opened image is to be turned to stand upright, as EXIF numbers it: 2 … 8; 1 for not at all."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF data do not make the pixels unreadable
        return 1
    return orientation if orientation in _UPRIGHT else 1


def turn_upright(image: Image.Image) -> Image.Image:
    """An opened image as people see it, turned by its EXIF orientation."""
    orientation = exif_orientation(image)
    return image if orientation == 1 else image.transpose(_UPRIGHT[orientation])


def upright_size(image: Image.Image) -> tuple[int, int]:
    """The (height, width) of an opened image after turning; its pixels need not be read for it."""
    # Pillow turns TIFF itself, and gives the size of it before it is read.
    on_its_side = image.format != "TIFF" and exif_orientation(image) >= 5
    return (image.width, image.height) if on_its_side else (image.height, image.width)


def flatten(image: Image.Image, mode: str) -> Image.Image:
    """The image in mode "L" or "RGB": transparency laid on white, more than 8 bits of grey scaled to 8."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    elif image.mode in _BY_ANOTHER_MODE:
        return flatten(image.convert(_BY_ANOTHER_MODE[image.mode]), mode)
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert(mode)


def _to_8_bits(grey: np.ndarray) -> np.ndarray:
    """Scales 16-bit grey by its full range; wider types by the narrowest usual range that holds them."""
    values = np.nan_to_num(grey.astype(np.float64))
    low, high = float(np.min(values)), float(np.max(values))
    usual = (1, 255, 65535) if grey.dtype.kind == "f" else (65535,)
    if low >= 0 and high <= 65535:
        low, high = 0, min(top for top in usual if high <= top)
    return np.rint((values - low) * (255 / max(high - low, np.finfo(np.float64).tiny))).astype(np.uint8)


def _check_memory(shape: tuple[int, int, int, int]) -> None:
    n, size, _, channels = shape
    needed, available = n * size * size * channels, psutil.virtual_memory().available
    if needed > available:
        fitting = max(1, int((0.8 * available / (n * channels)) ** 0.5))
        raise UserError(
            f"{n:,} images of side {size} with {channels} channels take {needed:,} bytes, but only "
            f"{available:,} bytes of memory are available. Choose a smaller image_size ({fitting} "
            "would fit), or fewer images."
        )


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image file, or its beginning is damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
