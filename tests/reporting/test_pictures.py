"""Pixels as images inside a page."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from fsljax.reporting.pictures import are_drawings, data_uri, thumbnail, to_uint8


def decode(uri: str) -> Image.Image:
    head, _, content = uri.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_come_back_as_they_were(channels: int):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, channels)).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(decode(data_uri(pixels, side=20))), pixels.squeeze())


def test_floats_lie_in_zero_to_one():
    np.testing.assert_array_equal(
        to_uint8(np.array([-1, 0, 0.5, 1, 2, np.nan], np.float32)), [0, 0, 128, 255, 255, 0]
    )
    with pytest.raises(TypeError, match="int64"):
        to_uint8(np.array([1, 2]))


def test_large_images_are_scaled_down_and_keep_their_proportions():
    assert thumbnail(np.zeros((400, 200, 3), np.uint8), 50).size == (25, 50)
    with pytest.raises(ValueError, match=r"\[4, 4, 2\]"):
        thumbnail(np.zeros((4, 4, 2)), 50)


def test_drawings_are_ink_on_transparent_paper():
    drawing = np.zeros((2, 10, 10, 1), np.uint8)
    drawing[:, 4] = 255
    assert are_drawings(drawing)
    assert not are_drawings(255 - drawing)
    assert not are_drawings(np.zeros((2, 10, 10, 3), np.uint8))
    picture = decode(data_uri(drawing[0], side=20, drawing=True))
    assert picture.getpixel((5, 4)) == (0, 255)
    assert picture.getpixel((5, 5)) == (0, 0)
