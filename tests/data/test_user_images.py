"""What an application gives is prepared as the training images were."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from PIL.Image import Resampling

from fsljax.config import Data
from fsljax.data.sources import folder
from fsljax.data.user_images import prepare
from fsljax.detection.config import Data as DetectionData
from fsljax.detection.data.padded_images import prepare_padded
from fsljax.errors import UserError


@pytest.mark.parametrize(
    ("name", "resampling", "cut_first"),
    [
        ("omniglot", Resampling.BOX, False),
        ("folder", Resampling.BICUBIC, False),
        ("tiny_imagenet", Resampling.BICUBIC, True),
        ("oxford_flowers102", Resampling.BILINEAR, True),
        ("mnist", Resampling.BILINEAR, True),
    ],
)
def test_each_source_has_its_way_of_resizing(
    name: str, resampling: Resampling, cut_first: bool, tmp_path: Path
):
    data = Data(name=name, image_size=7, channels=3)
    photograph = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8))
    photograph.save(tmp_path / "image.png")
    box = (4, 0, 16, 12)
    if cut_first:
        expected = photograph.crop(box).resize((7, 7), resampling)
    else:
        expected = photograph.resize((7, 7), resampling, box)
    for given in (photograph, np.asarray(photograph)[None], tmp_path / "image.png"):
        np.testing.assert_array_equal(prepare(given, data), np.asarray(expected)[None])


COLOUR = Data(name="folder", image_size=7, channels=3)
GREY = Data(name="folder", image_size=7, channels=1)
PHOTOGRAPHS = np.random.default_rng(0).integers(0, 256, (2, 9, 8, 3), np.uint8)


def encoded(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "form",
    [
        encoded,
        lambda picture: bytearray(encoded(picture)),
        lambda picture: memoryview(encoded(picture)),
        lambda picture: io.BytesIO(encoded(picture)),
        lambda picture: io.BufferedReader(io.BytesIO(encoded(picture))),
        Image.fromarray,
        np.asfortranarray,
        lambda picture: np.flip(np.flip(picture).copy()),
        lambda picture: picture.astype(">f4") / np.float32(255),
        lambda picture: (picture / 255).astype(np.float16),
        jnp.asarray,
    ],
)
def test_every_form_of_an_image_is_the_same_image(form):
    wanted = prepare(PHOTOGRAPHS, COLOUR)
    np.testing.assert_array_equal(prepare([form(picture) for picture in PHOTOGRAPHS], COLOUR), wanted)
    one = form(PHOTOGRAPHS[0])
    if not hasattr(one, "dtype"):
        np.testing.assert_array_equal(prepare(one, COLOUR), wanted[:1])


def test_a_file_that_was_read_before_is_read_from_its_beginning():
    file = io.BytesIO(encoded(PHOTOGRAPHS[0]))
    file.read()
    np.testing.assert_array_equal(prepare(file, COLOUR), prepare(PHOTOGRAPHS[:1], COLOUR))


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"]
)
@pytest.mark.parametrize("data", [COLOUR, GREY], ids=["colour", "grey"])
def test_pillow_images_of_every_mode_are_read(mode: str, data: Data):
    over = {"La": "LA", "PA": "LA", "RGBa": "RGBA"}.get(mode, "RGB")
    picture = Image.new("RGB", (9, 9), (130, 130, 130)).convert(over)
    picture = picture if mode == over else picture.convert(mode)
    grey = prepare(picture, data)
    assert grey.shape == (1, 7, 7, data.channels)
    few_colours = mode in ("1", "P")
    assert few_colours or np.abs(grey.astype(int) - 130).max() <= 3


@pytest.mark.parametrize("mode", ["I", "I;16"])
def test_wide_grey_is_scaled_by_16_bits_and_8_bits_in_it_are_refused(mode: str):
    bright = Image.fromarray(np.full((9, 9), 65535, np.uint16)).convert(mode)
    assert prepare(bright, GREY).min() == 255
    with pytest.raises(UserError, match=r"no value above 255.+give image.convert\(.L.\)"):
        prepare(Image.new("L", (9, 9), 200).convert(mode), GREY)


@pytest.mark.parametrize("size", [(1, 10_000), (10_000, 1), (1, 1), (2, 9_999)])
@pytest.mark.parametrize("extension", ["png", "jpg", "webp"])
def test_images_of_any_proportion_are_read(tmp_path: Path, size: tuple[int, int], extension: str):
    Image.new("RGB", size, (99, 99, 99)).save(tmp_path / f"a.{extension}")
    for data in (COLOUR, GREY):
        assert np.abs(prepare(tmp_path / f"a.{extension}", data).astype(int) - 99).max() <= 2
    padded = prepare_padded([tmp_path / f"a.{extension}"], DetectionData(image_size=32, channels=3))
    assert padded.sizes.min() >= 1 and padded.sizes.max() == 32
    assert padded.given_sizes.tolist() == [[size[1], size[0]]]


ZERO_AND_ONE = np.eye(9, dtype=np.uint8)[None]


@pytest.mark.parametrize(
    ("images", "data", "told"),
    [
        (ZERO_AND_ONE, GREY, r"only the values 0 and 1; as uint8 they are almost black: .+astype\(bool\)"),
        ([ZERO_AND_ONE[0]], GREY, "only the values 0 and 1"),
        ([Image.fromarray(ZERO_AND_ONE[0])], GREY, "only the values 0 and 1"),
        (jnp.asarray(ZERO_AND_ONE), GREY, "only the values 0 and 1"),
        (PHOTOGRAPHS[0].transpose(2, 0, 1), COLOUR, r"or 3 greyscale images: give images.transpose"),
        (np.zeros((4, 28, 28)), COLOUR, "channels come first, or 4 greyscale images"),
        (PHOTOGRAPHS.transpose(0, 3, 1, 2), COLOUR, r"Image 0 .+ channels come first, give numpy.moveaxis"),
        (PHOTOGRAPHS.transpose(0, 3, 1, 2), GREY, r"Image 0 .+ channels come first, give numpy.moveaxis"),
        ([PHOTOGRAPHS[0], PHOTOGRAPHS[1].transpose(2, 0, 1)], COLOUR, r"Image 1 .+ channels come first"),
        ([PHOTOGRAPHS[0, None, ..., 0]], GREY, "channels come first"),
        ({"a": PHOTOGRAPHS[0]}, COLOUR, "given as a dict, which has no order"),
        ({"a.png"}, COLOUR, "given as a set, which has no order"),
        (None, COLOUR, "Image 0 is of the type NoneType: give a path"),
        ([PHOTOGRAPHS[0], 3], COLOUR, "Image 1 is of the type int"),
        (b"", COLOUR, "Image 0 cannot be decoded: the file is empty"),
        (b"text", COLOUR, "Image 0 cannot be decoded: not an image file"),
        ([encoded(PHOTOGRAPHS[0]), encoded(PHOTOGRAPHS[0])[:60]], COLOUR, "Image 1 cannot be decoded"),
        (io.StringIO("text"), COLOUR, r"Image 0 is a file that yields str: open it with open\(path, 'rb'\)"),
        (Image.new("RGB", (0, 5)), COLOUR, "Image 0 has no pixels: it is 0 wide"),
        (np.zeros((2, 0, 9)), COLOUR, r"Image 0 has the shape \[0, 9\]"),
        (PHOTOGRAPHS / 1.0, COLOUR, "outside 0 … 1"),
        (-(PHOTOGRAPHS / 255), COLOUR, "outside 0 … 1"),
        (np.where(PHOTOGRAPHS > 9, PHOTOGRAPHS / 255, np.nan), COLOUR, "outside 0 … 1"),
        (PHOTOGRAPHS.astype(">u2"), COLOUR, "type >u2; it must be uint8"),
    ],
)  # fmt: skip
def test_what_is_no_image_or_may_be_another_is_told(images, data: Data, told: str):
    with pytest.raises(UserError, match=told):
        prepare(images, data)
    with pytest.raises(UserError, match=told.replace("decoded", "read")):
        prepare_padded(images, DetectionData(image_size=32, channels=data.channels))


def test_what_looks_odd_and_is_right_is_read():
    black = np.zeros((2, 9, 9), np.uint8)
    assert prepare(black, GREY).max() == 0
    assert prepare([ZERO_AND_ONE[0], PHOTOGRAPHS[0]], GREY).shape == (2, 7, 7, 1)
    assert prepare(ZERO_AND_ONE.astype(bool), GREY).max() > 100
    assert len(prepare(PHOTOGRAPHS[0].transpose(2, 0, 1), GREY)) == 3  # three grey images
    assert len(prepare(PHOTOGRAPHS[:1, ..., 0], COLOUR)) == 1
    assert len(prepare(np.zeros((5, 28, 28)), COLOUR)) == 5


class OnAnotherDevice:
    """An array of a library that does not give its values."""

    ndim = 4

    def __array__(self, *_, **__):
        raise TypeError("can't convert it: copy it to the host first")


def test_an_array_that_gives_no_values_is_told():
    with pytest.raises(UserError, match="cannot be read as an array: can't convert it"):
        prepare(OnAnotherDevice(), COLOUR)


def test_a_picture_cut_off_or_closed_is_told(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(encoded(np.tile(PHOTOGRAPHS[0], (9, 9, 1)))[:200])
    (tmp_path / "b.png").write_bytes(encoded(PHOTOGRAPHS[0]))
    with Image.open(tmp_path / "b.png") as closed:
        pass
    for picture in (Image.open(tmp_path / "a.png"), closed):
        with pytest.raises(UserError, match="Image 0 cannot be read"):
            prepare(picture, COLOUR)
        picture.close()


@pytest.mark.parametrize(("crop", "interpolation"), [(0.5, "bilinear"), (0.875, ""), (0.0, "nearest")])
def test_images_are_cut_as_those_of_the_folder_that_was_trained_on(
    tmp_path: Path, monkeypatch, crop: float, interpolation: str
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    draw = np.random.default_rng(0)
    for name in "abcdef":
        (tmp_path / "images" / name).mkdir(parents=True)
        picture = Image.fromarray(draw.integers(0, 256, (40, 60, 3), np.uint8))
        picture.save(tmp_path / "images" / name / "1.png")
    data = Data(
        name="folder", path=str(tmp_path / "images"), image_size=16, channels=3, crop=crop,
        interpolation=interpolation,
    )  # fmt: skip
    train = folder.load(data).train
    files = [tmp_path / "images" / name / "1.png" for name in train.class_names]
    np.testing.assert_array_equal(prepare(files, data), train.images)
    assert (prepare(files, replace(data, crop=0.0, interpolation="")) != train.images).any()
