"""A page of characters to search in, for those who have none at hand."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

ACROSS, DOWN = 6, 4
_CELL = 150  # pixels
_CHARACTERS = "ABEGKMRSTXYZ235678"
_FACES = ("DejaVuSans.ttf", "DejaVuSerif-Italic.ttf", "DejaVuSans-Oblique.ttf", "DejaVuSerif.ttf")


def sample_page(seed: int | None = None) -> tuple[Image.Image, str]:
    """A page of letters and digits, dark on bright, and what stands on it, row after row.

    Args:
      seed: which page; None: another each time.
    """
    random = np.random.default_rng(seed)
    text = "".join(random.choice(list(_CHARACTERS), ACROSS * DOWN))
    page = Image.new("L", (ACROSS * _CELL, DOWN * _CELL), 250)
    fonts = Path(matplotlib.get_data_path()) / "fonts/ttf"
    for number, character in enumerate(text):
        face = ImageFont.truetype(fonts / str(random.choice(_FACES)), int(random.integers(78, 104)))
        tile = Image.new("L", (_CELL, _CELL), 0)
        place = random.integers(-10, 11, 2) + _CELL // 2
        ImageDraw.Draw(tile).text((int(place[0]), int(place[1])), character, fill=255, font=face, anchor="mm")
        tile = tile.rotate(float(random.uniform(-10, 10)), Image.Resampling.BICUBIC)
        corner = (number % ACROSS * _CELL, number // ACROSS * _CELL)
        page.paste(40, (*corner, corner[0] + _CELL, corner[1] + _CELL), tile)
    return page.convert("RGB"), text
