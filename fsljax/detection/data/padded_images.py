"""Images that an application gives to a detector: scaled whole, padded to a square, read a few at a time."""

from __future__ import annotations

import io
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from fsljax.data.batches import fill_rows
from fsljax.data.io.decode import open_reduced, upright
from fsljax.data.labels import check_order
from fsljax.data.photographic import looks_colourful, looks_tonal
from fsljax.data.user_images import ImageLike, Images, content_of, named_images, picture_of, readable
from fsljax.detection.config import Data
from fsljax.detection.ops.boxes import check_boxes
from fsljax.errors import UserError

GivenBoxes = np.ndarray | Iterable[npt.ArrayLike]
"""Boxes `[n, 4]`, or for each of n images `[4]` or `[m, 4]`."""

IMAGES_AT_ONCE = 8
"""Images of a batch; fewer that are left go one by one, so that two programs are compiled."""

_AHEAD = 2 * IMAGES_AT_ONCE  # images that are read before they are asked for
_LEFT_ALONE = IMAGES_AT_ONCE // 2  # so many go one by one rather than in a batch that is filled up


class PaddedImages(NamedTuple):
    """Images in the upper left corners of squares.

    Attributes:
      images: uint8 `[n, side, side, channels]`, zeros right of the image and below.
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

    def filled(self) -> PaddedImages:
        """One image, or as many as a batch has: the first ones again."""
        whole = 1 if len(self.images) == 1 else IMAGES_AT_ONCE
        return PaddedImages(*(fill_rows(column, whole) for column in self))


def padded_batches(images: Images, data: Data, side: int | None = None) -> Iterator[PaddedImages]:
    """Images brought to a square and channels; the longer side becomes that of the square.

    Threads read ahead; no more than a few batches are held, however many images there are.

    Args:
      images: as of `fsljax.data.user_images.prepare`.
      data: the `data` section of the network's config.
      side: pixels of the square; None: `data.image_size`.

    Yields:
      batches of `IMAGES_AT_ONCE`, and at the end one of fewer or single images.

    Raises:
      UserError: if there are no images, or one cannot be read.
    """
    padded = _read_ahead(images, data, side or data.image_size)
    colourful = tonal = count = 0
    while batch := list(islice(padded, IMAGES_AT_ONCE)):
        columns = PaddedImages(
            np.stack([one.image for one in batch]),
            np.array([one.size for one in batch], np.float32),
            np.array([one.given_size for one in batch], np.float32),
        )
        count, colourful = count + len(batch), colourful + sum(one.colourful for one in batch)
        tonal += sum(one.tonal for one in batch)
        if len(batch) > _LEFT_ALONE:
            yield columns
        else:
            for row in range(len(batch)):
                yield PaddedImages(*(column[row : row + 1] for column in columns))
    if colourful or tonal:
        seen = [(colourful, "are in colour"), (tonal, "have the mid-tones of photographs")]
        told = " and ".join(f"{number} of {count} images {what}" for number, what in seen if number)
        warnings.warn(
            f"{told}, but this detector was trained on grey drawings "
            f"(the data set {data.name!r}): its detections in photographs are meaningless, however high "
            "their scores. Load a detector that was trained on photographs.",
            UserWarning,
            stacklevel=3,
        )


def prepare_padded(images: Images, data: Data) -> PaddedImages:
    """All images at once; see `padded_batches`."""
    return PaddedImages(*map(np.concatenate, zip(*padded_batches(images, data), strict=True)))


def listed_boxes(boxes: GivenBoxes) -> list[np.ndarray]:
    """What was given for each image, `[4]` or `[m, 4]`; unchecked.

    Raises:
      UserError: it is no sequence.
    """
    check_order(boxes, "boxes", "one or more for each image")
    try:
        rows = [np.asarray(row) for row in boxes]
    except (TypeError, ValueError):
        raise UserError(
            "The boxes are not a sequence: give one [y_min, x_min, y_max, x_max] per image."
        ) from None
    return [np.stack(rows)] if len(rows) == 4 and all(row.ndim == 0 for row in rows) else rows


def checked_boxes(
    boxes: np.ndarray, size: Sequence[float] | np.ndarray, number: int, *, may_be_empty: bool = False
) -> np.ndarray:
    """The boxes `[m, 4]` of an image, in its pixels as it was given.

    Args:
      boxes: `[4]` or `[m, 4]`.
      size: height and width of the image as it was given.
      number: of the image, for errors.
      may_be_empty: whether there may be none.

    Raises:
      UserError: if there are none, or one is outside its image, less than a pixel in a direction, a fraction
        of the image, or of no finite numbers.
    """
    if may_be_empty and boxes.shape == (0,):
        return np.zeros((0, 4), np.float32)
    several_boxes = boxes[None] if boxes.shape == (4,) else boxes
    _check_pixels(several_boxes, np.asarray(size), number)
    checked = check_boxes(several_boxes, float(size[0]), float(size[1]), f"image {number}")
    if not len(checked) and not may_be_empty:
        raise UserError(f"Image {number} has no box: leave it out, or give one.")
    return checked


class _Padded(NamedTuple):
    """One image: uint8 `[side, side, channels]`, its (height, width) there and as given, what was seen."""

    image: np.ndarray
    size: tuple[int, int]
    given_size: tuple[int, int]
    colourful: bool
    tonal: bool


def _read_ahead(images: Images, data: Data, side: int) -> Iterator[_Padded]:
    pending: deque[Future[_Padded]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        try:
            for name, image in named_images(images, data.channels):
                # Files and Pillow images may be given twice, and are not for two threads.
                given = image if isinstance(image, str | os.PathLike) else _content_or_picture(image, name)
                pending.append(threads.submit(_padded, given, name, data, side))
                if len(pending) > _AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _content_or_picture(image: ImageLike, name: str) -> bytes | Image.Image:
    content = content_of(image, name)
    return picture_of(image, name) if content is None else content


def _padded(given: str | os.PathLike[str] | bytes | Image.Image, name: str, data: Data, side: int) -> _Padded:
    channels: Literal[1, 3] = 1 if data.channels == 1 else 3
    if isinstance(given, Image.Image):
        opened, given_size = given, (given.height, given.width)
    else:
        file, called = (io.BytesIO(given), name) if isinstance(given, bytes) else (given, None)
        opened, given_size = open_reduced(file, 2 * side, called)
    with readable(name):
        picture = upright(opened, channels)
        if isinstance(given, Image.Image):
            given_size = picture.height, picture.width  # which EXIF may have turned
    scale = side / max(given_size)
    height, width = (max(1, round(length * scale)) for length in given_size)
    if (width, height) != picture.size:
        picture = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
    square = np.zeros((side, side, channels), np.uint8)
    square[:height, :width] = np.asarray(picture).reshape(height, width, channels)
    colourful = channels == 1 and looks_colourful(opened)
    tonal = channels == 1 and not colourful and looks_tonal(opened)
    return _Padded(square, (height, width), given_size, colourful, tonal)


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
