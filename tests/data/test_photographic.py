"""Photographs are told from scans of drawings, however tinted, shaded or noisy these are."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fsljax.data.photographic import looks_colourful, looks_tonal


def scan(tint: tuple[float, float, float] = (1, 1, 1), shade: float = 1.0, noise: float = 0.0) -> Image.Image:
    page = Image.new("L", (400, 300), 250)
    draw = ImageDraw.Draw(page)
    for x in range(30, 400, 60):
        for y in range(30, 300, 60):
            draw.line((x, y, x + 30, y + 35), 30, 5)
            draw.arc((x - 10, y - 10, x + 25, y + 25), 0, 270, 30, 4)
    pixels = np.asarray(page, np.float32)[..., None] * np.array(tint)
    pixels = pixels * np.linspace(1, shade, 400)[None, :, None]
    pixels += np.random.default_rng(0).normal(0, noise, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


SCANS = {
    "plain": scan(),
    "yellowed": scan((1.0, 0.92, 0.7)),
    "warm lamp": scan((1.0, 0.8, 0.55), 0.6),
    "shadow and noise": scan((0.95, 0.95, 1.0), 0.4, 8),
    "inverted": Image.eval(scan(), lambda value: 255 - value),
}


@pytest.mark.parametrize("name", SCANS)
def test_scans_of_drawings_are_no_photographs(name: str):
    assert not looks_colourful(SCANS[name]) and not looks_tonal(SCANS[name])
    assert not looks_tonal(SCANS[name].convert("L"))


def gradients() -> Image.Image:
    across, down = np.meshgrid(np.linspace(0, 255, 300), np.linspace(0, 255, 200))
    texture = 128 + 100 * np.sin(across / 7) * np.cos(down / 11)
    return Image.fromarray(np.stack([across, texture, 255 - down], axis=-1).astype(np.uint8))


def test_colour_photographs_are_told_by_their_colour_and_grey_ones_by_their_tones():
    assert looks_colourful(gradients())
    grey = gradients().convert("L")
    assert not looks_colourful(grey) and looks_tonal(grey)
    desaturated = Image.merge("RGB", [grey] * 3)
    assert not looks_colourful(desaturated) and looks_tonal(desaturated)
