"""Boxes drawn into images, in files of their own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fsljax.data.io.decode import open_picture, upright
from fsljax.storage.replacing import replacing

_COLOUR, _INK = (230, 60, 20), (255, 255, 255)
_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")


def write_drawn(
    folder: Path, path: str, boxes: Sequence[tuple[str, tuple[float, float, float, float]]]
) -> Path:
    """Writes an image, upright, with boxes.

    Args:
      folder: where to; a file that is there stays, and the new one gets a number.
      path: of the image.
      boxes: what is written beside each, and where it is, `(y_min, x_min, y_max, x_max)` in pixels.

    Returns:
      the file: a JPEG of a JPEG, else a PNG.

    Raises:
      OSError: if it cannot be written.
    """
    picture = upright(open_picture(path), 3)
    draw_boxes(picture, boxes)
    source = Path(path)
    suffix = ".jpg" if source.suffix.casefold() in _JPEG else ".png"
    names = itertools.chain([source.stem], (f"{source.stem}-{number}" for number in itertools.count(2)))
    target = next(file for name in names if not (file := folder / f"{name}{suffix}").exists())
    with replacing(target) as unfinished:
        picture.save(unfinished, "JPEG" if suffix == ".jpg" else "PNG", quality=92)
    return target


def draw_boxes(picture: Image.Image, boxes: Sequence[tuple[str, tuple[float, float, float, float]]]) -> None:
    """Draws boxes into an RGB image, the first above all others."""
    line = max(1, round(min(picture.size) / 200))
    font = _font(max(10, round(min(picture.size) / 40)))
    draw = ImageDraw.Draw(picture)
    for text, (top, left, bottom, right) in reversed(boxes):
        # A box may end less than a pixel from where it begins, and lie partly outside.
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=_COLOUR, width=line)
        shown = text.encode(errors="replace").decode().replace("\n", " ")
        width, height = draw.textbbox((0, 0), shown, font=font)[2:]
        x = max(0.0, min(left, picture.width - width))
        y = top - height if top >= height else min(bottom, picture.height - height)
        draw.rectangle((x, y, x + width, y + height), fill=_COLOUR)
        draw.text((x, y), shown, fill=_INK, font=font)


def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    # It has Latin, Greek, Cyrillic and more, and Pillow's own font little more than ASCII.
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)
