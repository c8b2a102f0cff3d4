"""Drawings of any paper become bright ink on dark."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fsljax.demo.ink import box_of, character_of, drawing_of, ink_of, sketch_of
from fsljax.demo.sample import ACROSS, DOWN, sample_page
from fsljax.errors import UserError


def drawn(paper: int = 255, ink: int = 0, size: int = 200) -> Image.Image:
    picture = Image.new("RGB", (size, size), (paper,) * 3)
    ImageDraw.Draw(picture).line((60, 50, 60, 150), fill=(ink,) * 3, width=8)
    ImageDraw.Draw(picture).line((60, 150, 120, 150), fill=(ink,) * 3, width=8)
    return picture


@pytest.mark.parametrize(("paper", "ink"), [(255, 0), (0, 255), (200, 60), (30, 150)])
def test_ink_is_found_on_bright_paper_and_on_dark(paper: int, ink: int):
    strength = ink_of(drawn(paper, ink))
    assert strength[100, 60] > 0.9 and strength[20, 20] == 0
    np.testing.assert_allclose(box_of(strength), (50, 56, 154, 121), atol=3)


def test_a_shadow_is_no_ink():
    shaded = np.asarray(drawn(), np.float32) * np.linspace(1, 0.55, 200)[None, :, None]
    strength = ink_of(Image.fromarray(shaded.astype(np.uint8)))
    np.testing.assert_allclose(box_of(strength), (50, 56, 154, 121), atol=3)


def test_an_empty_drawing_is_told():
    with pytest.raises(UserError, match="There is no ink"):
        ink_of(Image.new("RGB", (50, 50), "white"))


def test_a_drawing_is_cut_out_and_centred():
    drawing = drawing_of(drawn())
    top, left, bottom, right = box_of(drawing.astype(np.float32))
    assert drawing.shape == (105, 105) and drawing.max() == 255
    assert abs(top + bottom - 105) <= 3 and abs(left + right - 105) <= 3
    assert max(character_of(drawn(), 40).size) == 40


def as_url(picture: Image.Image) -> str:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def test_what_the_canvas_gives_is_read_and_what_it_cannot_give_refused():
    canvas = Image.new("RGBA", (400, 400), (0, 0, 0, 0))
    assert sketch_of(as_url(canvas)) is None and sketch_of("") is None and sketch_of(None) is None
    ImageDraw.Draw(canvas).line((60, 50, 60, 150), fill=(0, 0, 0, 255), width=8)
    sketch = sketch_of(as_url(canvas))
    assert sketch is not None and sketch.getpixel((60, 100)) == (0, 0, 0)
    assert sketch.getpixel((300, 300)) == (255, 255, 255)
    for wrong in ("/etc/passwd", "data:image/png;base64,AAAA", "data:image/png;base64,é"):
        with pytest.raises(UserError, match="The drawing cannot be read"):
            sketch_of(wrong)


def test_a_page_is_the_same_for_a_seed():
    page, text = sample_page(3)
    assert len(text) == ACROSS * DOWN and page.tobytes() == sample_page(3)[0].tobytes()
    assert ink_of(page).max() == 1
