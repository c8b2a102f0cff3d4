"""Files that a browser sent, as pictures; what is wrong with them is told in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from fsljax.data.io.decode import open_picture, upright, upright_size
from fsljax.data.io.formats import open_image
from fsljax.errors import UserError

MOST_FILES = 40
"""Images in one upload."""
MOST_MEGABYTES = 20
"""Of one file."""
_MOST_PIXELS = 50_000_000
_LONGEST_SIDE = 1280  # of what is kept in memory

Files = str | Sequence[str] | None


def pictures_of(files: Files, *, what: str = "image", most: int = MOST_FILES) -> list[Image.Image]:
    """The images of an upload, upright, RGB, at most 1,280 pixels a side.

    Args:
      files: paths as Gradio gives them.
      what: the noun for one of them in a sentence.
      most: how many there may be.

    Raises:
      UserError: if there are none or too many, or one is not an image or too large.
    """
    paths = [files] if isinstance(files, str) else list(files or [])
    if not paths:
        raise UserError(f"Choose {'an' if what[0] in 'aeiou' else 'a'} {what} first.")
    if len(paths) > most:
        raise UserError(f"{len(paths)} files are too many at once: choose {most} or fewer.")
    return [_picture_of(Path(path)) for path in paths]


def _picture_of(path: Path) -> Image.Image:
    if path.stat().st_size > MOST_MEGABYTES << 20:
        raise UserError(f"{path.name} is larger than {MOST_MEGABYTES} MB: choose a smaller file.")
    try:
        with open_image(path) as opened:
            height, width = upright_size(opened)
    except Exception:  # which reading it tells
        height = width = 0
    if height * width > _MOST_PIXELS:
        raise UserError(
            f"{path.name} has {height * width / 1e6:.0f} megapixels: choose an image of at most "
            f"{_MOST_PIXELS / 1e6:.0f}."
        )
    picture = upright(open_picture(path, path.name), 3)
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    return picture
