"""What a browser sends is checked, and told in a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsljax.demo import uploads
from fsljax.demo.uploads import pictures_of
from fsljax.errors import UserError


def image_file(folder: Path, name: str = "image.png", size: tuple[int, int] = (40, 30)) -> str:
    Image.new("RGB", size, (200, 30, 30)).save(folder / name)
    return str(folder / name)


def test_images_come_back_upright_and_no_larger_than_needed(tmp_path: Path):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "turned.jpg", exif=exif)
    small, turned = pictures_of([image_file(tmp_path), str(tmp_path / "turned.jpg")])
    assert (small.size, small.mode, turned.size) == ((40, 30), "RGB", (30, 40))
    (large,) = pictures_of(image_file(tmp_path, "large.png", (2560, 100)))
    assert large.size == (1280, 50)


@pytest.mark.parametrize("content", [b"no image", b"", b"\x89PNG\r\n\x1a\n cut off"])
def test_what_is_no_image_is_refused_by_its_name(tmp_path: Path, content: bytes):
    (tmp_path / "notes.png").write_bytes(content)
    with pytest.raises(UserError, match=r"^notes\.png cannot be read: .+\.$"):
        pictures_of([str(tmp_path / "notes.png")])


def test_number_size_and_pixels_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="Choose an image first"):
        pictures_of(None)
    with pytest.raises(UserError, match="41 files are too many at once: choose 40 or fewer"):
        pictures_of([image_file(tmp_path)] * 41)
    monkeypatch.setattr(uploads, "_MOST_PIXELS", 1000)
    with pytest.raises(UserError, match=r"image\.png has 0 megapixels"):
        pictures_of(image_file(tmp_path))
    monkeypatch.setattr(uploads, "MOST_MEGABYTES", 0)
    with pytest.raises(UserError, match=r"image\.png is larger than 0 MB"):
        pictures_of(image_file(tmp_path))


def test_a_grey_image_of_16_bits_is_read(tmp_path: Path):
    Image.fromarray((np.arange(900).reshape(30, 30) * 70).astype(np.uint16)).save(tmp_path / "wide.png")
    (picture,) = pictures_of([str(tmp_path / "wide.png")])
    assert picture.mode == "RGB"
