"""Boxes drawn into images, in files of their own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fsljax.data.io.decode import open_picture, upright
from fsljax.storage.replacing import replacing

Box = tuple[float, float, float, float]

_COLOURS = ((230, 60, 20), (40, 110, 230), (30, 150, 60), (245, 190, 20), (150, 60, 200), (20, 180, 190),
            (240, 120, 180), (130, 85, 40))  # fmt: skip
_DARK, _BRIGHT = (20, 20, 20), (255, 255, 255)
_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")


def write_drawn(
    folder: Path, path: str, boxes: Sequence[tuple[str, Box]], kinds: Sequence[int] | None = None
) -> Path:
    """Writes an image, upright, with boxes.

    Args:
      folder: where to; a file that is there stays, and the new one gets a number.
      path: of the image.
      boxes: what is written beside each, and where it is, `(y_min, x_min, y_max, x_max)` in pixels.
      kinds: as of `draw_boxes`.

    Returns:
      the file: a JPEG of a JPEG, else a PNG.

    Raises:
      OSError: if it cannot be written.
    """
    picture = upright(open_picture(path), 3)
    draw_boxes(picture, boxes, kinds)
    source = Path(path)
    suffix = ".jpg" if source.suffix.casefold() in _JPEG else ".png"
    names = itertools.chain([source.stem], (f"{source.stem}-{number}" for number in itertools.count(2)))
    target = next(file for name in names if not (file := folder / f"{name}{suffix}").exists())
    with replacing(target) as unfinished:
        picture.save(unfinished, "JPEG" if suffix == ".jpg" else "PNG", quality=92)
    return target


def draw_boxes(
    picture: Image.Image, boxes: Sequence[tuple[str, Box]], kinds: Sequence[int] | None = None
) -> None:
    """Draws boxes into an RGB image, the first above all others; dark edges tell them from any ground.

    Args:
      picture: it is changed.
      boxes: what is written beside each, and where it is.
      kinds: numbers of the colours; None: all have the first.
    """
    line = max(1, round(min(picture.size) / 200))
    font = _font(max(10, round(min(picture.size) / 40)))
    draw = ImageDraw.Draw(picture)
    colours = [_COLOURS[kind % len(_COLOURS)] for kind in kinds or [0] * len(boxes)]
    for (text, (top, left, bottom, right)), colour in reversed(list(zip(boxes, colours, strict=True))):
        # A box may end less than a pixel from where it begins, and lie partly outside.
        right, bottom = max(left, right - 1), max(top, bottom - 1)
        around = (left - 1, top - 1, right + 1, bottom + 1)
        draw.rectangle(around, outline=_DARK, width=line + 2)
        draw.rectangle((left, top, right, bottom), outline=colour, width=line)
        shown = text.encode(errors="replace").decode().replace("\n", " ")
        width, height = draw.textbbox((0, 0), shown, font=font)[2:]
        x = max(0.0, min(left, picture.width - width))
        y = top - height if top >= height else min(bottom, picture.height - height)
        is_bright = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2] > 150
        draw.rectangle((x, y, x + width, y + height), fill=colour)
        draw.text((x, y), shown, fill=_DARK if is_bright else _BRIGHT, font=font)


def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    # It has Latin, Greek, Cyrillic and more, and Pillow's own font little more than ASCII.
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)
