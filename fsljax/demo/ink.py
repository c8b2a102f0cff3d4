"""Drawings as networks of drawings were trained on them: bright ink on dark paper."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image, ImageFilter

from fsljax.data.io.decode import open_picture, upright
from fsljax.data.photographic import on_bright_paper
from fsljax.errors import UserError

DRAWING_SIDE = 105
"""Pixels of a drawing, as Omniglot has them."""
_LEAST_CONTRAST = 0.15
_FAINT = 0.25  # share of the darkest ink below which it is paper
_MARGIN = 0.15  # of a drawing's longer side
_PNG, _LONGEST_URL = "data:image/png;base64,", 4_000_000
_SHADES = 32  # windows across the image, in which the brightness of the paper is measured


def ink_of(picture: Image.Image) -> np.ndarray:
    """How much ink there is, float32 `[height, width]` from 0 (paper) to 1; on dark paper or on bright.

    Shadows are taken off: ink is what differs from the brightness of the paper around it.

    Raises:
      UserError: if there is no ink.
    """
    grey = on_bright_paper(picture.convert("L"))
    paper = np.asarray(_paper_of(grey), np.float32)
    ink = np.clip((paper - np.asarray(grey, np.float32)) / np.maximum(paper, 64), 0, 1)
    darkest = float(np.quantile(ink, 0.9995)) if ink.size else 0.0
    if darkest < _LEAST_CONTRAST:
        darkest = float(np.max(ink, initial=0))
    if darkest < _LEAST_CONTRAST:
        raise UserError("There is no ink in this drawing: draw something, or choose another image.")
    ink = np.clip(ink / darkest, 0, 1)
    faintless: np.ndarray = np.where(ink < _FAINT, 0, ink).astype(np.float32)
    return faintless


def _paper_of(grey: Image.Image) -> Image.Image:
    """The brightness of the paper everywhere: the brightest nearby, smoothed."""
    width, height = grey.size
    few = (min(width, _SHADES), min(height, _SHADES))
    shades = grey.resize(few, Image.Resampling.BOX).filter(ImageFilter.MaxFilter(5))
    brightest = shades.filter(ImageFilter.MaxFilter(5)).filter(ImageFilter.BoxBlur(2))
    return brightest.resize(grey.size, Image.Resampling.BILINEAR)


def box_of(ink: np.ndarray) -> tuple[int, int, int, int]:
    """The box `(y_min, x_min, y_max, x_max)` around all ink."""
    rows, columns = (np.flatnonzero((ink > 0).any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def drawing_of(picture: Image.Image) -> np.ndarray:
    """One character, cut out with a margin: uint8 `[105, 105]`, bright ink on dark paper.

    Raises:
      UserError: if there is no ink.
    """
    ink = ink_of(picture)
    top, left, bottom, right = box_of(ink)
    longer = max(bottom - top, right - left)
    side = round(longer * (1 + 2 * _MARGIN)) + 1
    square = np.zeros((side, side), np.float32)
    y, x = (side - (bottom - top)) // 2, (side - (right - left)) // 2
    square[y : y + bottom - top, x : x + right - left] = ink[top:bottom, left:right]
    return _resized(square, DRAWING_SIDE)


def character_of(picture: Image.Image, side: int) -> Image.Image:
    """The same character without a margin, its longer side scaled: a grey image, bright ink on black."""
    ink = ink_of(picture)
    top, left, bottom, right = box_of(ink)
    cut = Image.fromarray((255 * ink[top:bottom, left:right]).astype(np.uint8))
    scale = side / max(cut.size)
    return cut.resize(
        (max(2, round(cut.width * scale)), max(2, round(cut.height * scale))), Image.Resampling.BOX
    )


def sketch_of(drawn: str | None) -> Image.Image | None:
    """What was drawn on the page's canvas, on white; None: nothing was.

    Args:
      drawn: the data URL of a PNG.

    Raises:
      UserError: if it is something else.
    """
    if not drawn:
        return None
    try:
        if not drawn.startswith(_PNG) or len(drawn) > _LONGEST_URL:
            raise ValueError("no drawing")
        content = base64.b64decode(drawn.removeprefix(_PNG), validate=True)
        picture = upright(open_picture(io.BytesIO(content), "The drawing"), 3)
    except ValueError as error:
        raise UserError("The drawing cannot be read: clear it, and draw it again.") from error
    darkest, brightest = np.asarray(picture).min(), np.asarray(picture).max()
    return None if darkest == brightest else picture


def _resized(square: np.ndarray, side: int) -> np.ndarray:
    """uint8; thin lines of a large drawing would fade, so the darkest is ink again."""
    small = np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BOX), np.float32)
    return (255 * np.clip(small / max(float(np.max(small)), 1e-6), 0, 1)).astype(np.uint8)
