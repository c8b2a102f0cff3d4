"""Whether an image looks like a photograph, of whoever was trained on grey drawings."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

# Measured on 617 photographs, and on pages of characters, plain, tinted, shaded and noisy: of these the
# chroma is at most 9.7 (blue ink) and the share of mid-tones 0.1.
_COLOURFUL = 12.0
_TONAL = 0.4
_SIDE = 256
_LEAST_SIDE = 96  # of an image that tells drawn lines from tones
_SHADES = 16  # windows across, in which the brightness of the paper is measured
_PAPER, _SOLID_INK = 0.85, 0.25  # shares of the paper's brightness
_LARGEST_GAIN = 2.0


def looks_colourful(image: Image.Image) -> bool:
    """Whether there is colour in it beyond that of its paper."""
    if image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;"):
        return False
    pixels = np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BOX), np.float32)
    # Old paper and warm light tint the whole of a scan.
    paper = np.maximum(np.median(pixels.reshape(-1, 3), axis=0), 1)
    balanced = pixels * np.minimum(paper.max() / paper, _LARGEST_GAIN)
    return min(_chroma(pixels), _chroma(balanced)) >= _COLOURFUL


def looks_tonal(image: Image.Image) -> bool:
    """Whether much of it is neither paper nor ink, shadows on the paper aside; never of a tiny one."""
    if image.mode in ("1", "I", "F") or image.mode.startswith("I;") or min(image.size) < _LEAST_SIDE:
        return False
    small = image.convert("L")
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.NEAREST)
    grey = on_bright_paper(small)
    shades = grey.resize((_SHADES, _SHADES), Image.Resampling.BOX).filter(ImageFilter.MaxFilter(3))
    paper = np.asarray(shades.resize(grey.size, Image.Resampling.BILINEAR), np.float32)
    share = np.asarray(grey, np.float32) / np.maximum(paper, 32)
    return bool(np.mean((share < _PAPER) & (share > _SOLID_INK)) >= _TONAL)


def on_bright_paper(grey: Image.Image) -> Image.Image:
    """A grey image as it is, or inverted where most of it is dark."""
    return Image.eval(grey, lambda value: 255 - value) if np.median(np.asarray(grey)) < 128 else grey


def _chroma(pixels: np.ndarray) -> float:
    return float(np.mean(pixels.max(axis=-1) - pixels.min(axis=-1)))
