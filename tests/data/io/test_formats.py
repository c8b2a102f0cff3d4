"""Formats of image files: told by content, read where they can be, named where not."""

from __future__ import annotations

import importlib.util
import io
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from fsljax.data.io import formats
from fsljax.data.io.decode import decode_bytes, decode_image, decode_images, open_picture, upright
from fsljax.data.sources.folder import load_splits
from fsljax.errors import UserError

HEIC = b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + bytes(400)
needs_heif = pytest.mark.skipif(not formats.reads_heic(), reason="pillow-heif is not installed")
needs_avif = pytest.mark.skipif(not formats.reads_avif(), reason="Pillow was built without AVIF")


@pytest.fixture
def without_heif(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(formats, "reads_heic", lambda: False)
    formats.read_extensions.cache_clear()
    yield
    formats.read_extensions.cache_clear()


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (HEIC, "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1miaf", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0mif1miafavif", "AVIF"),
        (b"\0\0\0\x18ftypcrx \0\0\0\0crx isom", "camera RAW"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a video"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x4f\xff\x51\0", "JPEG 2000"),
        (b"\xff\x0a\0", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\xef\xbb\xbf <svg xmlns=", "SVG"),
        (b"%PDF-1.7", "PDF"),
        (b"\x89PNG\r\n", ""),
        (b"\xff\xd8\xff\xe0", ""),
        (b"", ""),
    ],
)
def test_a_format_is_told_by_the_first_bytes(head: bytes, name: str):
    assert formats.format_of(head) == name


@pytest.mark.parametrize("name", ["IMG_1.HEIC", "renamed.jpg"])
def test_heic_that_cannot_be_read_says_what_to_install(tmp_path: Path, without_heif, name: str):
    (tmp_path / name).write_bytes(HEIC)
    with pytest.raises(
        UserError, match=rf"{name} cannot be read: HEIC requires .+: pip install pillow-heif\."
    ):
        decode_image(tmp_path / name, image_size=8)
    with pytest.raises(UserError, match="pip install pillow-heif"):
        decode_bytes(HEIC, image_size=8)
    with pytest.raises(UserError, match="pip install pillow-heif"):
        open_picture(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.psd", b"8BPS" + bytes(99), "Photoshop is not supported: convert it to PNG or JPEG"),
        ("a.svg", b"<svg/>", "SVG is not supported"),
        ("a.png", b"", "the file is empty"),
        ("a.png", b"text", "not an image file"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, name: str, content: bytes, told: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=told):
        decode_image(tmp_path / name, image_size=8)


def test_the_preview_of_a_raw_file_is_not_taken_for_the_photograph(tmp_path: Path):
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.dng", "TIFF")
    with pytest.raises(UserError, match="camera RAW is not supported"):
        decode_image(tmp_path / "photo.dng", image_size=8)


@needs_avif
def test_avif_is_read_where_pillow_reads_it(tmp_path: Path):
    Image.new("RGB", (8, 8), (10, 100, 200)).save(tmp_path / "a.avif", quality=100)
    for name in ("a.avif", "a.jpg"):
        (tmp_path / "a.avif").rename(tmp_path / name)
        image = decode_image(tmp_path / name, image_size=8)
        (tmp_path / name).rename(tmp_path / "a.avif")
        assert np.abs(image.astype(int) - (10, 100, 200)).max() < 6
    assert formats.is_image("x.AVIF")


@needs_heif
@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_read_upright(tmp_path: Path, orientation: int):
    import pillow_heif

    pillow_heif.register_heif_opener()
    y, x = np.mgrid[:40, :60]
    picture = Image.fromarray(np.stack([x * 4, y * 6, (x + y) * 2], -1).astype(np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture.save(tmp_path / "a.heic", exif=exif.tobytes(), quality=100)
    picture.save(tmp_path / "a.png", exif=exif)
    read = [np.asarray(upright(open_picture(tmp_path / f"a.{kind}"), 3), int) for kind in ("heic", "png")]
    assert read[0].shape == read[1].shape
    assert np.abs(read[0] - read[1]).mean() < 3
    content = io.BytesIO((tmp_path / "a.heic").read_bytes())
    np.testing.assert_array_equal(np.asarray(upright(open_picture(content), 3)), read[0])


@needs_heif
def test_a_damaged_heic_file_is_told(tmp_path: Path):
    (tmp_path / "a.heic").write_bytes(HEIC)
    with pytest.raises(UserError, match=r"a\.heic cannot be read"):
        decode_image(tmp_path / "a.heic", image_size=8)


def test_heic_is_opened_by_pillow_heif_where_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With another reader in the place of pillow-heif, for where that is not installed."""
    registered = []

    class Reader(types.ModuleType):
        def register_heif_opener(self) -> None:
            registered.append(True)

    monkeypatch.setitem(sys.modules, "pillow_heif", Reader("pillow_heif"))
    monkeypatch.setattr(formats, "reads_heic", lambda: True)
    formats.read_extensions.cache_clear()
    try:
        assert formats.is_image("IMG_1.HEIC") and formats.is_image("a.heif")
        assert formats.passed_over(["a.heic", "b.jp2"]) == "1 JPEG 2000 (convert it to PNG or JPEG)"
        (tmp_path / "a.heic").write_bytes(HEIC)
        with pytest.raises(UserError):
            decode_image(tmp_path / "a.heic", image_size=8)
        assert registered
    finally:
        formats.read_extensions.cache_clear()


def test_photographs_in_heic_are_counted_in_a_folder(tmp_path: Path, without_heif):
    for name in "abcdef":
        (tmp_path / name).mkdir()
        Image.new("RGB", (3, 3), (ord(name), 0, 0)).save(tmp_path / name / "1.png")
        for number in range(9):
            (tmp_path / name / f"IMG_{number}.HEIC").write_bytes(HEIC)
    splits = load_splits(tmp_path, image_size=3)
    assert any("54 HEIC (pip install pillow-heif)" in note for note in splits.notes)


def test_what_cannot_be_read_for_want_of_a_package_is_tried_again(tmp_path: Path, without_heif, monkeypatch):
    for name in "abcdef":
        (tmp_path / name).mkdir()
        for number in range(40):
            Image.new("RGB", (3, 3), (ord(name), number, 0)).save(tmp_path / name / f"{number}.png")
    (tmp_path / "a/renamed.jpg").write_bytes(HEIC)
    tried = []

    def decode(files, **options):
        tried.append(len(files))
        return decode_images(files, **options)

    monkeypatch.setattr("fsljax.data.sources.folder.decode_images", decode)
    for _ in range(2):
        assert any("renamed.jpg (HEIC requires" in note for note in load_splits(tmp_path, image_size=3).notes)
    assert tried == [241, 241]


def test_whether_a_package_is_there_is_asked_without_importing_it():
    assert formats.reads_heic() == (importlib.util.find_spec("pillow_heif") is not None)
    if not formats.reads_heic():
        assert "pillow_heif" not in sys.modules
    assert os.extsep + "png" in formats.read_extensions()
