import math
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.Image import Resampling

from fsljax.data.io.decode import Fitting, decode_bytes, decode_image, decode_images, fit_image
from fsljax.errors import UserError


def noise(height, width, channels=3, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(height, width):
    """A picture that survives JPEG: slow waves, another in each channel."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [np.sin(5 * x + y), np.cos(4 * y), np.sin(3 * x * y + 1)]
    return np.rint(127.5 + 100 * np.stack(waves, -1)).astype(np.uint8)


def write_16_bit_png(path, samples):
    """Writes uint16 `[height, width, channels]`, which Pillow cannot for more than one channel."""
    height, width, channels = samples.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("extension", "options"),
    [("png", {}), ("bmp", {}), ("webp", {"lossless": True}), ("tiff", {})],
)
def test_lossless_formats_give_the_very_pixels(tmp_path, extension, options):
    pixels = noise(16, 16)
    path = tmp_path / f"image.{extension}"
    Image.fromarray(pixels).save(path, **options)
    decoded = decode_image(path, image_size=16)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, pixels)


@pytest.mark.parametrize("extension", ["jpg", "webp"])
def test_lossy_formats_come_close(tmp_path, extension):
    pixels = smooth(64, 64)
    path = tmp_path / f"image.{extension}"
    Image.fromarray(pixels).save(path, quality=95)
    difference = decode_image(path, image_size=64).astype(int) - pixels
    assert np.abs(difference).mean() < 4


def test_a_format_is_told_by_content_not_by_extension(tmp_path):
    pixels = noise(8, 8)
    Image.fromarray(pixels).save(tmp_path / "image.jpg", format="PNG")
    np.testing.assert_array_equal(decode_image(tmp_path / "image.jpg", image_size=8), pixels)


def test_grey_gives_three_equal_channels(tmp_path):
    pixels = noise(8, 8, channels=1)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    decoded = decode_image(tmp_path / "image.png", image_size=8)
    np.testing.assert_array_equal(decoded, np.repeat(pixels[..., None], 3, axis=-1))


def test_one_channel_is_luminance(tmp_path):
    pixels = noise(8, 8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    decoded = decode_image(tmp_path / "image.png", image_size=8, channels=1)
    assert decoded.shape == (8, 8, 1)
    np.testing.assert_allclose(decoded[..., 0], pixels @ [0.299, 0.587, 0.114], atol=1)


def test_dark_ink_on_white_paper_stays_dark_on_white(tmp_path):
    pixels = np.full((8, 8), 255, np.uint8)
    pixels[2:4] = 10
    Image.fromarray(pixels).save(tmp_path / "image.png")
    decoded = decode_image(tmp_path / "image.png", image_size=8, channels=1)
    np.testing.assert_array_equal(decoded[..., 0], pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_black_and_white(tmp_path, channels):
    bits = noise(8, 8, channels=1) > 127
    Image.fromarray(bits).convert("1").save(tmp_path / "image.png")
    decoded = decode_image(tmp_path / "image.png", image_size=8, channels=channels)
    np.testing.assert_array_equal(decoded, np.repeat(255 * bits[..., None], channels, axis=-1))


def test_transparency_is_laid_on_white(tmp_path):
    pixels = np.concatenate([noise(8, 8), noise(8, 8, channels=1, seed=1)[..., None]], -1)
    pixels[0, :, 3], pixels[1, :, 3] = 0, 255
    Image.fromarray(pixels).save(tmp_path / "image.png")
    decoded = decode_image(tmp_path / "image.png", image_size=8)
    opacity = pixels[..., 3:] / 255
    np.testing.assert_allclose(decoded, pixels[..., :3] * opacity + 255 * (1 - opacity), atol=1)
    assert (decoded[0] == 255).all()
    np.testing.assert_array_equal(decoded[1], pixels[1, :, :3])


def test_transparent_grey_is_laid_on_white(tmp_path):
    pixels = np.stack([np.zeros((4, 4), np.uint8), np.arange(16, dtype=np.uint8).reshape(4, 4) * 17], -1)
    Image.fromarray(pixels, "LA").save(tmp_path / "image.png")
    decoded = decode_image(tmp_path / "image.png", image_size=4, channels=1)
    np.testing.assert_allclose(decoded[..., 0], 255 - pixels[..., 1], atol=1)


def test_palette_with_and_without_a_transparent_colour(tmp_path):
    image = Image.new("P", (4, 2))
    image.putpalette([200, 30, 40, 10, 60, 250])
    image.putdata([0] * 4 + [1] * 4)
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "transparent.png", transparency=1)
    image.save(tmp_path / "transparent.gif", transparency=1)
    opaque = decode_image(tmp_path / "opaque.png", image_size=2)
    np.testing.assert_array_equal(opaque, [[[200, 30, 40]] * 2, [[10, 60, 250]] * 2])
    for name in ("transparent.png", "transparent.gif"):
        decoded = decode_image(tmp_path / name, image_size=2)
        np.testing.assert_array_equal(decoded, [[[200, 30, 40]] * 2, [[255, 255, 255]] * 2])


def test_cmyk(tmp_path):
    cyan_and_black = np.zeros((16, 32, 4), np.uint8)
    cyan_and_black[:, :16, 0] = 255
    cyan_and_black[:, 16:, 3] = 255
    image = Image.fromarray(cyan_and_black, "CMYK")
    for name in ("image.tiff", "image.jpg"):
        image.save(tmp_path / name, quality=95)
        decoded = decode_image(tmp_path / name, image_size=(16, 32)).astype(int)
        assert np.abs(decoded[:, :14] - [0, 255, 255]).max() < 12
        assert decoded[:, 18:].max() < 12


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_is_scaled_to_8_bits(tmp_path, channels):
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8, 1)
    colours = 3 if channels > 2 else 1
    samples = np.repeat(values, channels, axis=-1)
    if channels in (2, 4):
        samples[..., -1] = 65535
    write_16_bit_png(tmp_path / "image.png", samples)
    decoded = decode_image(tmp_path / "image.png", image_size=8, channels=colours)
    np.testing.assert_allclose(decoded, np.repeat(values / 257, colours, axis=-1), atol=1)
    assert decoded.min() == 0
    assert decoded.max() == 255


def test_16_bit_grey_is_rounded_exactly(tmp_path):
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(levels * 257).save(tmp_path / "image.png")
    decoded = decode_image(tmp_path / "image.png", image_size=16, channels=1)
    np.testing.assert_array_equal(decoded[..., 0], levels)


def test_dark_16_bit_grey_is_not_stretched(tmp_path):
    Image.fromarray(np.full((4, 4), 2570, np.uint16)).save(tmp_path / "image.png")
    assert (decode_image(tmp_path / "image.png", image_size=4) == 10).all()


@pytest.mark.parametrize("top", [1, 255, 65535])
def test_floating_point_grey_is_scaled_by_its_usual_range(tmp_path, top):
    values = np.array([[0, 0.2], [0.6, 1]], np.float32) * top
    Image.fromarray(values).save(tmp_path / "image.tiff")
    decoded = decode_image(tmp_path / "image.tiff", image_size=2, channels=1)
    np.testing.assert_array_equal(decoded[..., 0], [[0, 51], [153, 255]])


STORED_FOR_ORIENTATION = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path, orientation):
    upright = noise(4, 6)
    stored = np.ascontiguousarray(STORED_FOR_ORIENTATION[orientation](upright))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(stored).save(tmp_path / "image.png", exif=exif)
    decoded = decode_image(tmp_path / "image.png", image_size=(4, 6))
    np.testing.assert_array_equal(decoded, upright)


def test_exif_orientation_of_a_jpeg(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    upright = smooth(48, 64)
    Image.fromarray(np.rot90(upright, 1).copy()).save(tmp_path / "image.jpg", quality=95, exif=exif)
    difference = decode_image(tmp_path / "image.jpg", image_size=(48, 64)).astype(int) - upright
    assert np.abs(difference).mean() < 4


def test_an_orientation_beside_a_damaged_tag_is_honoured(tmp_path):
    # The resolution is text where a ratio must be: Pillow reads such data, and cannot write them.
    orientation = struct.pack(">HHI4s", ExifTags.Base.Orientation, 3, 1, b"\0\6\0\0")
    resolution = struct.pack(">HHI4s", ExifTags.Base.XResolution, 2, 4, b"abc\0")
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 2) + orientation + resolution + bytes(4)
    upright = smooth(48, 64)
    Image.fromarray(np.rot90(upright, 1).copy()).save(tmp_path / "image.jpg", quality=95, exif=exif)
    difference = decode_image(tmp_path / "image.jpg", image_size=(48, 64)).astype(int) - upright
    assert np.abs(difference).mean() < 4


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_impossible_orientation_is_ignored(tmp_path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    pixels = noise(4, 4)
    Image.fromarray(pixels).save(tmp_path / "image.png", exif=exif)
    np.testing.assert_array_equal(decode_image(tmp_path / "image.png", image_size=4), pixels)


@pytest.mark.parametrize("turned", [False, True])
def test_the_centre_of_the_longer_side_is_kept(tmp_path, turned):
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = noise(20, 20)
    pixels[:, 40:] = 255
    stored = pixels.swapaxes(0, 1) if turned else pixels
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "image.png")
    decoded = decode_image(tmp_path / "image.png", image_size=20)
    expected = pixels[:, 20:40].swapaxes(0, 1) if turned else pixels[:, 20:40]
    np.testing.assert_array_equal(decoded, expected)


def test_the_shorter_side_is_resized(tmp_path):
    bands = np.repeat(np.array([0, 90, 180, 255], np.uint8), 40)  # 160 rows, of which none are cut off
    Image.fromarray(np.repeat(bands[:, None], 200, axis=1)).save(tmp_path / "image.png")
    decoded = decode_image(tmp_path / "image.png", image_size=16, channels=1)
    np.testing.assert_allclose(
        decoded[[1, 6, 9, 14], :, 0], [[0] * 16, [90] * 16, [180] * 16, [255] * 16], atol=2
    )


@pytest.mark.parametrize("extension", ["png", "jpg"])
def test_shrinking_does_not_alias(tmp_path, extension):
    checkers = np.indices((512, 512)).sum(0) % 2 * 255
    Image.fromarray(checkers.astype(np.uint8)).save(tmp_path / f"image.{extension}", quality=95)
    decoded = decode_image(tmp_path / f"image.{extension}", image_size=28, channels=1)
    assert np.abs(decoded.astype(int) - 127).max() <= 4


def test_a_large_jpeg_gives_what_its_full_decoding_gives(tmp_path):
    image = Image.fromarray(smooth(600, 600))
    image.save(tmp_path / "image.jpg", quality=95)
    image.save(tmp_path / "image.png")
    as_jpeg = decode_image(tmp_path / "image.jpg", image_size=32).astype(int)
    as_png = decode_image(tmp_path / "image.png", image_size=32).astype(int)
    assert np.abs(as_jpeg - as_png).max() <= 6


@pytest.mark.parametrize("resampling", [Image.Resampling.BOX, Image.Resampling.BICUBIC])
def test_a_file_is_resized_by_the_filter_that_is_asked_for(tmp_path, resampling):
    image = Image.fromarray(noise(40, 60))
    image.save(tmp_path / "image.png")
    decoded = decode_image(tmp_path / "image.png", image_size=16, resampling=resampling)
    np.testing.assert_array_equal(decoded, fit_image(image, image_size=16, resampling=resampling))


def test_the_box_filter_takes_means_of_areas(tmp_path):
    pixels = noise(8, 8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    decoded = decode_image(tmp_path / "image.png", image_size=4, resampling=Image.Resampling.BOX)
    means = pixels.reshape(4, 2, 4, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(decoded, means, atol=1)
    assert np.abs(decode_image(tmp_path / "image.png", image_size=4) - means).max() > 10


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_an_image_of_one_pixel_fills_the_square(tmp_path, mode):
    Image.new(mode, (1, 1), 0).save(tmp_path / "image.png")
    decoded = decode_image(tmp_path / "image.png", image_size=8)
    assert decoded.shape == (8, 8, 3)
    assert (decoded == (255 if mode in ("LA", "RGBA") else 0)).all()


@pytest.mark.parametrize(("height", "width"), [(1, 301), (301, 1), (40, 80)])
def test_cropping_is_as_after_resizing_the_whole(tmp_path, height, width):
    image = Image.fromarray(noise(height, width))
    image.save(tmp_path / "image.png")
    scale = 20 / min(height, width)
    whole = np.asarray(image.resize((int(width * scale), int(height * scale)), Image.Resampling.BICUBIC))
    top, left = ((side - 20) // 2 for side in whole.shape[:2])
    decoded = decode_image(tmp_path / "image.png", image_size=20).astype(int)
    assert np.abs(decoded - whole[top : top + 20, left : left + 20]).max() <= 1


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime")]
    frames[0].save(tmp_path / "image.gif", save_all=True, append_images=frames[1:])
    assert (decode_image(tmp_path / "image.gif", image_size=4) == [255, 0, 0]).all()


def unreadable(folder, kind):
    path = folder / f"{kind}.png"
    if kind == "text":
        path.write_text("no image at all")
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        Image.fromarray(noise(64, 64)).save(path)
        path.write_bytes(path.read_bytes()[:3000])
    elif kind == "folder":
        path.mkdir()
    elif kind == "program":  # a format that Pillow would hand to Ghostscript
        Image.new("RGB", (4, 4)).save(path, format="EPS")
    return path


@pytest.mark.parametrize("resampling", [Resampling.BILINEAR, Resampling.BICUBIC])
@pytest.mark.parametrize("size", [5, 12, 30])
def test_what_is_cut_off_first_has_no_influence(tmp_path, size, resampling):
    pixels = noise(12, 20)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    options = {"image_size": size, "resampling": resampling, "cut_first": True}
    square = Image.fromarray(pixels[:, 4:16])
    expected = np.asarray(square.resize((size, size), resampling, reducing_gap=3.0))
    np.testing.assert_array_equal(decode_image(tmp_path / "image.png", **options), expected)
    np.testing.assert_array_equal(decode_bytes((tmp_path / "image.png").read_bytes(), **options), expected)


@pytest.mark.parametrize("cut_first", [False, True])
def test_the_bytes_of_a_file_are_decoded_as_the_file(tmp_path, cut_first):
    Image.fromarray(noise(40, 33)).save(tmp_path / "image.jpg")
    options = {"image_size": 12, "channels": 1, "cut_first": cut_first}
    np.testing.assert_array_equal(
        decode_bytes((tmp_path / "image.jpg").read_bytes(), **options),
        decode_image(tmp_path / "image.jpg", **options),
    )


def test_bytes_that_are_no_image_are_refused():
    for content in (b"", b"no image", b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(UserError, match=r"^The image cannot be decoded: .+[^.]\.$"):
            decode_bytes(content, image_size=8)


KINDS = ["text", "empty", "truncated", "folder", "program", "missing"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_unreadable_is_named(tmp_path, kind):
    path = unreadable(tmp_path, kind)
    with pytest.raises(UserError, match=f"{kind}.png cannot be read: .+[^.]\\.$"):
        decode_image(path, image_size=8)


def test_a_truncated_jpeg_is_unreadable(tmp_path):
    Image.fromarray(noise(200, 200)).save(tmp_path / "image.jpg")
    content = (tmp_path / "image.jpg").read_bytes()
    (tmp_path / "image.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="truncated"):
        decode_image(tmp_path / "image.jpg", image_size=8)


def test_a_decompression_bomb_is_unreadable(tmp_path, monkeypatch):
    Image.new("L", (64, 64)).save(tmp_path / "image.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match="decompression bomb"):
        decode_image(tmp_path / "image.png", image_size=8)


def test_many_images_keep_their_order_without_the_unreadable(tmp_path):
    paths, expected = [], []
    for number in range(40):
        paths.append(tmp_path / f"{number}.png")
        pixels = noise(8, 8, seed=number)
        if number % 7 == 3:
            paths[-1].write_text("no image")
        else:
            Image.fromarray(pixels).save(paths[-1])
            expected.append(pixels)
    images, reasons = decode_images(paths, image_size=8)
    np.testing.assert_array_equal(images, expected)
    assert sorted(reasons) == [3, 10, 17, 24, 31, 38]
    assert all("not an image" in reason for reason in reasons.values())


def test_each_kind_of_unreadable_file_has_its_reason(tmp_path):
    images, reasons = decode_images([unreadable(tmp_path, kind) for kind in KINDS], image_size=8)
    assert images.shape == (0, 8, 8, 3)
    assert list(reasons) == list(range(len(KINDS)))
    assert all(reasons.values())


def test_no_images():
    images, reasons = decode_images([], image_size=8, channels=1)
    assert images.shape == (0, 8, 8, 1)
    assert reasons == {}


def test_what_does_not_fit_into_memory_is_refused_before_decoding(tmp_path):
    with pytest.raises(UserError, match=r"smaller image_size \(\d+ would fit\)"):
        decode_images([tmp_path / "missing.png"] * 1000, image_size=1_000_000)


@pytest.mark.parametrize("shape", [(60, 100), (100, 60), (50, 50), (9, 13), (31, 400)])
@pytest.mark.parametrize(("crop", "interpolation"), [(0.875, "bicubic"), (0.9, "bilinear"), (1.0, "nearest")])
def test_the_centre_is_cut_out_of_the_resized_image_as_timm_does(shape, crop, interpolation):
    image = Image.fromarray(smooth(*shape))
    shorter = math.floor(28 / crop)
    if image.width <= image.height:
        resized = image.resize(
            (shorter, int(shorter * image.height / image.width)), Resampling[interpolation.upper()]
        )
    else:
        resized = image.resize(
            (int(shorter * image.width / image.height), shorter), Resampling[interpolation.upper()]
        )
    left, top = (round((side - 28) / 2) for side in resized.size)
    expected = np.asarray(resized.crop((left, top, left + 28, top + 28)), int)
    fitting = Fitting().as_asked(crop, interpolation)
    fitted = fit_image(image, image_size=28, **fitting._asdict())
    # Of two pixels that are equally near, rounding may take the one or the other.
    tolerance = 0.05 if interpolation == "nearest" else 0
    assert np.mean(np.abs(fitted - expected).max(-1) > 1) <= tolerance


def test_a_crop_takes_the_middle_of_a_file(tmp_path):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[16:48, 16:48] = 255
    Image.fromarray(pixels).save(tmp_path / "image.png")
    assert decode_image(tmp_path / "image.png", image_size=16, crop=0.4).min() == 255
    assert decode_image(tmp_path / "image.png", image_size=16).min() == 0
