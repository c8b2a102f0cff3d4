"""Cropping against bilinear interpolation in float64, colours against Python's own conversion to HSV.

Two channels of the cropped images hold each pixel's own row and column: they tell which part was taken.
"""

from __future__ import annotations

import colorsys
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from fsljax.data.photographic_augmentation import change_colours, random_resized_crop

HEIGHT, WIDTH = 19, 16
crop = jax.jit(random_resized_crop, static_argnames="smallest")
recolour = jax.jit(change_colours, static_argnames=("saturation", "hue"))


def charted(count: int, seed: int = 0) -> np.ndarray:
    """Images of rows, columns and noise, `[count, HEIGHT, WIDTH, 3]`."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(seed).uniform(size=(count, HEIGHT, WIDTH))
    charts = np.broadcast_to(np.stack([rows / (HEIGHT - 1), columns / (WIDTH - 1)], -1), (*noise.shape, 2))
    return np.float32(np.concatenate([charts, noise[..., None]], axis=-1))


def part_of_side(origins: np.ndarray) -> tuple[float, float]:
    """Start and length of the part of a side that pixels `[size]` came from, in pixels."""
    size = len(origins)
    inside = (origins > 1e-3) & (origins < size - 1 - 1e-3)
    step, first = np.polyfit(np.arange(size)[inside], origins[inside], 1)
    return first + 0.5 - step / 2, step * size


def parts(cropped: np.ndarray) -> np.ndarray:
    """Of each image the part that was taken: first row, height, first column, width, `[n, 4]`, in pixels."""
    rows = np.float64(cropped[:, :, WIDTH // 2, 0]) * (HEIGHT - 1)
    columns = np.float64(cropped[:, HEIGHT // 2, :, 1]) * (WIDTH - 1)
    return np.array(
        [(*part_of_side(r), *part_of_side(c)) for r, c in zip(rows, columns, strict=True)], np.float64
    )


def resampled(image: np.ndarray, part: np.ndarray) -> np.ndarray:
    """The part brought to the size of the image, bilinear, the border repeated."""
    first_row, height, first_column, width = part
    rows = np.clip(first_row + (np.arange(HEIGHT) + 0.5) * height / HEIGHT - 0.5, 0, HEIGHT - 1)
    columns = np.clip(first_column + (np.arange(WIDTH) + 0.5) * width / WIDTH - 0.5, 0, WIDTH - 1)
    result = np.zeros(image.shape)
    for r, row in enumerate(rows):
        for c, column in enumerate(columns):
            top, left = int(row), int(column)
            for i, weight in ((top, 1 - row + top), (min(top + 1, HEIGHT - 1), row - top)):
                for j, other in ((left, 1 - column + left), (min(left + 1, WIDTH - 1), column - left)):
                    result[r, c] += weight * other * np.float64(image[i, j])
    return result


def colours(count: int = 40, seed: int = 0) -> np.ndarray:
    """Random colours; in the first column one of half saturation, from which the change can be read."""
    images = np.random.default_rng(seed).uniform(size=(count, 5, 4, 3)).astype(np.float32)
    images[:, :, 0] = (0.8, 0.4, 0.4)
    return images


def hsv(colour: np.ndarray) -> tuple[float, float, float]:
    return colorsys.rgb_to_hsv(*np.float64(colour))


class PhotoChangesTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(0.08, 0.5)
    def test_a_crop_is_the_bilinear_enlargement_of_a_part(self, smallest: float):
        images = charted(6)
        cropped = np.asarray(
            self.variant(partial(random_resized_crop, smallest=smallest))(jax.random.key(0), images)
        )
        for image, ours, part in zip(images, cropped, parts(cropped), strict=True):
            np.testing.assert_allclose(ours, resampled(image, part), atol=1e-4)

    @chex.variants(with_jit=True, without_jit=True)
    def test_colours_change_in_hsv(self):
        images = colours(10)
        change = self.variant(partial(change_colours, saturation=0.6, hue=0.2))
        for image, ours in zip(images, np.asarray(change(jax.random.key(1), images)), strict=True):
            turned, strength, _ = hsv(ours[0, 0])
            for before, after in zip(image.reshape(-1, 3), ours.reshape(-1, 3), strict=True):
                h, s, v = hsv(before)
                expected = colorsys.hsv_to_rgb((h + turned) % 1, min(s * strength / 0.5, 1), v)
                np.testing.assert_allclose(after, expected, atol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_under_vmap_they_equal_a_loop(self):
        keys = jax.random.split(jax.random.key(0), 3)
        images = np.stack([charted(2, seed) for seed in range(3)])

        def change(key: jax.Array, each: jax.Array) -> jax.Array:
            return change_colours(key, random_resized_crop(key, each, 0.3), saturation=0.5, hue=0.3)

        looped = np.stack([jax.jit(change)(key, each) for key, each in zip(keys, images, strict=True)])
        np.testing.assert_allclose(self.variant(jax.vmap(change))(keys, images), looped, atol=1e-5)


def test_parts_lie_within_the_image_and_have_the_stated_areas_and_aspects():
    cropped = np.asarray(crop(jax.random.key(0), charted(3000), 0.2))
    first_row, height, first_column, width = parts(cropped).T
    rows, columns = height / HEIGHT, width / WIDTH
    area, aspect = rows * columns, columns / rows
    for first, share, size in ((first_row, rows, HEIGHT), (first_column, columns, WIDTH)):
        assert first.min() > -1e-3
        assert (first + share * size).max() < size + 1e-3
        free = (1 - share) * size > 1
        place = first[free] / ((1 - share) * size)[free]
        np.testing.assert_allclose(np.histogram(place, 4, (0, 1))[0] / free.sum(), 0.25, atol=0.05)
    assert 0.2 - 1e-3 < area.min() < 0.21
    assert 0.99 < area.max() < 1 + 1e-3
    np.testing.assert_allclose(np.histogram(area, 4, (0.2, 1))[0] / 3000, 0.25, atol=0.05)
    assert 3 / 4 - 1e-2 < aspect.min() < 0.76
    assert 1.32 < aspect.max() < 4 / 3 + 1e-2
    np.testing.assert_allclose(np.mean(np.log(aspect)), 0, atol=0.02)


def test_the_whole_image_is_left_as_it_is():
    images = charted(8)
    np.testing.assert_allclose(crop(jax.random.key(0), images, 1.0), images, atol=1e-6)


def test_no_value_leaves_the_range_of_the_image():
    images = np.round(charted(100))
    cropped = np.asarray(crop(jax.random.key(0), images, 0.08))
    assert cropped.min() >= 0
    assert cropped.max() <= 1 + 1e-6
    even = np.full((20, HEIGHT, WIDTH, 1), 0.7, np.float32)
    np.testing.assert_allclose(crop(jax.random.key(0), even, 0.08), even, atol=1e-6)


def test_amounts_of_colour_are_uniform_within_their_limits():
    changed = np.asarray(recolour(jax.random.key(0), colours(2000), saturation=0.4, hue=0.1))
    planes = np.array([hsv(image[0, 0]) for image in changed])
    turned, strength = (planes[:, 0] + 0.5) % 1 - 0.5, planes[:, 1] / 0.5
    np.testing.assert_allclose(planes[:, 2], 0.8, atol=1e-6)
    for amounts, middle, most in ((turned, 0, 0.1), (strength, 1, 0.4)):
        assert np.abs(amounts - middle).max() < most + 1e-5
        shares = np.histogram(amounts, 4, (middle - most, middle + most))[0] / 2000
        np.testing.assert_allclose(shares, 0.25, atol=0.05)


def test_grey_stays_grey_and_colours_stay_in_range():
    grey = np.repeat(charted(10)[..., 2:], 3, axis=-1)
    np.testing.assert_allclose(recolour(jax.random.key(0), grey, saturation=0.9, hue=0.5), grey, atol=1e-6)
    extreme = np.round(colours())
    changed = np.asarray(recolour(jax.random.key(0), extreme, saturation=5.0, hue=0.5))
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_each_image_has_amounts_of_its_own():
    same = np.repeat(charted(1), 20, axis=0)
    for changed in (
        crop(jax.random.key(0), same, 0.5),
        recolour(jax.random.key(0), same, saturation=0.5, hue=0.1),
    ):
        assert len({image.tobytes() for image in np.asarray(changed)}) == 20


def test_bfloat16_images_keep_their_type():
    images = jnp.asarray(colours(), jnp.bfloat16)
    for change in (
        partial(crop, smallest=0.5),
        partial(recolour, saturation=0.3, hue=0.1),
    ):
        narrow = change(jax.random.key(0), images)
        assert narrow.dtype == jnp.bfloat16
        assert np.isfinite(np.float32(narrow)).all()
    wide = crop(jax.random.key(0), images.astype(jnp.float32), 0.5)
    np.testing.assert_allclose(np.float32(crop(jax.random.key(0), images, 0.5)), wide, atol=0.01)


def test_images_without_colours_are_refused():
    with pytest.raises(ValueError, match="images of 3 channels, not 1"):
        change_colours(jax.random.key(0), jnp.zeros((2, 4, 4, 1)), saturation=0.1, hue=0.0)
