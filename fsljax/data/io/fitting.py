"""How images of any size are brought to one."""

from __future__ import annotations

import math
from typing import NamedTuple

from PIL.Image import Resampling


class Fitting(NamedTuple):
    """How images of any size are brought to one; see `decode_image`.

    Attributes:
      resampling: Pillow's filter.
      cut_first: the centred part is cut out before it is resized.
      crop: share of the shorter side that is kept; 0: all, as the two others say.
    """

    resampling: Resampling = Resampling.BICUBIC
    cut_first: bool = False
    crop: float = 0.0

    def as_asked(self, crop: float, interpolation: str) -> Fitting:
        """This one, or what `config.data.crop` and `config.data.interpolation` ask for instead."""
        resampling = Resampling[interpolation.upper()] if interpolation else self.resampling
        return Fitting(resampling, self.cut_first, crop)


USUAL = Fitting()


def centre(size: tuple[int, int], aspect: float) -> tuple[int, int, int, int]:
    """The largest centred box of this width / height, in whole pixels: (left, top, right, bottom)."""
    width = min(size[0], max(1, round(size[1] * aspect)))
    height = min(size[1], max(1, round(size[0] / aspect)))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return left, top, left + width, top + height


def before_crop(side: int, crop: float) -> int:
    """What a side of an image is brought to so that after cropping it has `side` pixels."""
    return math.floor(side / crop) if crop else side


def resized_centre(
    size: tuple[int, int], wanted: tuple[int, int], crop: float
) -> tuple[float, float, float, float]:
    """Of an image of this (width, height), what lies in the centre of it once it is resized before cropping.

    The filter reads beyond the box as it would in the whole image, so that the two are the same.
    """
    scale = max(before_crop(side, crop) / own for side, own in zip(wanted, size, strict=True))
    edges = []
    for side, own in zip(wanted, size, strict=True):
        resized = max(side, int(own * scale + 1e-6))
        first = round((resized - side) / 2)
        edges.append((first * own / resized, (first + side) * own / resized))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom
