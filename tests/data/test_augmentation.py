"""Augmentation, against bilinear interpolation in float64.

Two channels of the test images hold each pixel's own row and column. After the change they tell where every
pixel came from, so that amounts drawn at random are known without a look at how they are drawn.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from fsljax.data.augmentation import (
    Augmentation,
    _coordinates,
    _resample,
    augment,
    augment_at_step,
    augment_classes_at_step,
)
from fsljax.data.photographic_augmentation import random_resized_crop

HEIGHT, WIDTH = 17, 14
CENTRE = np.array([(HEIGHT - 1) / 2, (WIDTH - 1) / 2])
EVERYTHING = Augmentation(
    rotation=30,
    scale=0.2,
    stretch=0.2,
    shear=0.3,
    shift=3,
    elastic=2,
    flip=True,
    brightness=0.3,
    contrast=0.5,
)

compiled = jax.jit(augment, static_argnames="amounts")


def charted(count: int = 8, seed: int = 0) -> np.ndarray:
    """Images of rows, columns and noise, `[count, HEIGHT, WIDTH, 3]`."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(seed).uniform(size=(count, HEIGHT, WIDTH))
    charts = np.broadcast_to(np.stack([rows / (HEIGHT - 1), columns / (WIDTH - 1)], -1), (*noise.shape, 2))
    return np.float32(np.concatenate([charts, noise[..., None]], axis=-1))


def origins(changed: np.ndarray) -> np.ndarray:
    """Rows and columns that pixels came from, `[n, HEIGHT, WIDTH, 2]`; those outside are on the border."""
    return np.float64(changed[..., :2]) * [HEIGHT - 1, WIDTH - 1]


def affine_maps(changed: np.ndarray) -> np.ndarray:
    """The maps from pixels to where they came from, about the centre, `[n, 3, 2]`: last the shift."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([rows - CENTRE[0], columns - CENTRE[1], np.ones_like(rows)], axis=-1)
    maps = []
    for origin in origins(changed):
        inside = np.all((origin > 0.01) & (origin < np.array([HEIGHT, WIDTH]) - 1.01), axis=-1)
        fitted, residual, *_ = np.linalg.lstsq(pixels[inside], origin[inside] - CENTRE, rcond=None)
        np.testing.assert_allclose(residual, 0, atol=1e-6)
        maps.append(fitted)
    return np.array(maps)


def bilinear(image: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """One pixel at a time; beyond the border the border is repeated."""
    result = np.zeros(coordinates.shape[:2] + image.shape[2:])
    for index in np.ndindex(coordinates.shape[:2]):
        row, column = np.clip(coordinates[index], 0, np.array([HEIGHT, WIDTH]) - 1)
        for r in range(HEIGHT):
            for c in range(WIDTH):
                weight = max(0, 1 - abs(row - r)) * max(0, 1 - abs(column - c))
                if weight:
                    result[index] += weight * np.float64(image[r, c])
    return result


def applied(fitted: np.ndarray) -> np.ndarray:
    """Where an affine map takes every pixel's value from, also outside of the image."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([rows - CENTRE[0], columns - CENTRE[1], np.ones_like(rows)], axis=-1)
    return pixels @ fitted + CENTRE


def changed_by(images: np.ndarray, *, seed: int = 0, **amounts) -> np.ndarray:
    return np.asarray(compiled(jax.random.key(seed), images, Augmentation(**amounts)))


class AugmentTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_amounts_of_zero_change_nothing(self):
        images = charted()
        ours = self.variant(partial(augment, amounts=Augmentation()))(jax.random.key(0), images)
        np.testing.assert_array_equal(ours, images)

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters("rotation", "scale", "stretch", "shear", "shift", "elastic")
    def test_hardly_any_movement_hardly_changes_images(self, name: str):
        images, amounts = charted(), Augmentation(**{name: 1e-4})
        assert amounts.moves()
        ours = self.variant(partial(augment, amounts=amounts))(jax.random.key(0), images)
        np.testing.assert_allclose(ours, images, atol=2e-3)

    @chex.variants(with_jit=True, without_jit=True)
    def test_the_key_alone_decides(self):
        images, change = charted(), self.variant(partial(augment, amounts=EVERYTHING))
        first, again, other = (change(jax.random.key(k), images) for k in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert np.all(np.any(first != other, axis=(1, 2, 3)))

    @chex.variants(with_jit=True, without_jit=True)
    def test_under_vmap_it_equals_a_loop(self):
        keys = jax.random.split(jax.random.key(0), 3)
        images = np.stack([charted(2, seed) for seed in range(3)])
        change = partial(augment, amounts=EVERYTHING)
        one = jax.jit(change)
        looped = np.stack([one(key, each) for key, each in zip(keys, images, strict=True)])
        np.testing.assert_allclose(self.variant(jax.vmap(change))(keys, images), looped, atol=1e-5)


def before_photographs(key: jax.Array, images: jax.Array, amounts: Augmentation) -> jax.Array:
    """All changes as they were when there were neither crops nor changes of colour."""
    move_key, flip_key, light_key = jax.random.split(key, 3)
    if amounts.moves():
        images = _resample(images, _coordinates(move_key, images.shape, amounts))
    if amounts.flip:
        mirrored = jax.random.bernoulli(flip_key, shape=(len(images), 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
    if amounts.brightness or amounts.contrast:
        bright, strong = jax.random.uniform(light_key, (2, len(images), 1, 1, 1), minval=-1.0)
        mean = jnp.mean(images, axis=(1, 2, 3), keepdims=True)
        images = mean + (images - mean) * (1 + amounts.contrast * strong) + amounts.brightness * bright
        images = jnp.clip(images, 0.0, 1.0)
    return images


@pytest.mark.parametrize("amounts", [Augmentation(), Augmentation(flip=True), EVERYTHING], ids=str)
def test_without_crops_and_colours_every_bit_is_what_it_was(amounts: Augmentation):
    before = jax.jit(before_photographs, static_argnames="amounts")
    for seed in range(3):
        key, images = jax.random.key(seed), charted(seed=seed)
        np.testing.assert_array_equal(compiled(key, images, amounts), before(key, images, amounts))


def test_crops_come_first_and_take_no_part_in_the_other_draws():
    images, key = charted(), jax.random.key(0)
    cropped = changed_by(images, crop_scale=0.3)
    expected = random_resized_crop(jax.random.fold_in(key, 3), images, 0.3)
    np.testing.assert_allclose(cropped, expected, atol=1e-5)
    assert np.all(np.any(cropped != images, axis=(1, 2, 3)))
    others = dataclasses.replace(EVERYTHING, crop_scale=0.3)
    np.testing.assert_allclose(compiled(key, images, others), compiled(key, cropped, EVERYTHING), atol=1e-5)


def test_colours_change_last_and_take_no_part_in_the_other_draws():
    grey = np.repeat(charted()[..., 2:], 3, axis=-1)
    coloured = dataclasses.replace(EVERYTHING, saturation=0.5, hue=0.5)
    key = jax.random.key(0)
    np.testing.assert_allclose(compiled(key, grey, coloured), compiled(key, grey, EVERYTHING), atol=1e-6)
    for name in ("saturation", "hue"):
        images = charted()
        assert np.all(np.any(changed_by(images, **{name: 0.3}) != images, axis=(1, 2, 3)))


def test_brightness_contrast_and_flip_move_nothing():
    assert not Augmentation().moves()
    assert not Augmentation(flip=True, brightness=0.5, contrast=0.5, elastic_points=8).moves()
    assert not Augmentation(crop_scale=0.5, saturation=0.5, hue=0.5).moves()


def test_a_shift_equals_a_numpy_shift():
    images, limit = charted(20), 2.5
    changed = changed_by(images, shift=limit)
    maps = affine_maps(changed)
    np.testing.assert_allclose(maps[:, :2], np.tile(np.eye(2), (20, 1, 1)), atol=1e-4)
    shifts = maps[:, 2]
    assert np.all(np.abs(shifts) <= limit + 1e-4)
    assert np.abs(shifts).max() > 0.8 * limit
    for image, ours, shift in zip(images, changed, shifts, strict=True):
        whole = np.floor(shift).astype(int)
        down, right = shift - whole
        # Three pixels of border are more than any of these shifts needs.
        padded = np.pad(np.float64(image), ((3, 4), (3, 4), (0, 0)), mode="edge")
        corner = [
            padded[3 + whole[0] + r :, 3 + whole[1] + c :][:HEIGHT, :WIDTH] for r in (0, 1) for c in (0, 1)
        ]
        weights = [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
        shifted = sum(weight * part for weight, part in zip(weights, corner, strict=True))
        np.testing.assert_allclose(ours, shifted, atol=1e-4)


def test_a_rotation_equals_bilinear_interpolation_at_the_turned_pixels():
    images, limit = charted(12), 60.0
    changed = changed_by(images, rotation=limit)
    maps = affine_maps(changed)
    angles = np.arctan2(maps[:, 0, 1], maps[:, 0, 0])
    assert np.all(np.abs(np.rad2deg(angles)) <= limit)
    assert np.rad2deg(np.ptp(angles)) > limit
    assert angles.min() < 0 < angles.max()
    for image, ours, angle, fitted in zip(images, changed, angles, maps, strict=True):
        turn = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)], [0, 0]]
        np.testing.assert_allclose(fitted, turn, atol=1e-4)
        np.testing.assert_allclose(ours, bilinear(image, applied(np.array(turn))), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scale", lambda amount: [[1 + amount, 0], [0, 1 + amount]]),
        ("stretch", lambda amount: [[1, 0], [0, 1 + amount]]),
        ("shear", lambda amount: [[1, amount], [0, 1]]),
    ],
)
def test_scale_stretch_and_shear_are_about_the_centre_and_within_their_amount(name: str, expected):
    images, limit = charted(12), 0.4
    changed = changed_by(images, **{name: limit})
    maps = affine_maps(changed)
    amounts = maps[:, 0, 1] if name == "shear" else maps[:, 1, 1] - 1
    assert np.all(np.abs(amounts) <= limit + 1e-4)
    assert amounts.min() < 0 < amounts.max()
    for image, ours, amount, fitted in zip(images, changed, amounts, maps, strict=True):
        np.testing.assert_allclose(fitted, [*expected(amount), [0, 0]], atol=1e-4)
        np.testing.assert_allclose(ours, bilinear(image, applied(fitted)), atol=1e-4)


def test_the_elastic_change_is_smooth_and_of_the_stated_size():
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    moved = origins(changed_by(charted(50), elastic=2.0)) - np.stack([rows, columns], axis=-1)
    # Cubics overshoot the values between which they interpolate, by half at most.
    assert 1.5 < np.abs(moved).max() < 3.01
    inner = moved[:, 4:-4, 4:-4]
    assert np.abs(np.diff(inner, axis=1)).max() < 1.5, "neighbours move alike"
    assert np.all(np.std(inner, axis=(1, 2)) > 0.05), "but not all the same"


def test_a_flip_mirrors_half_of_the_images():
    images = charted(400)
    changed = changed_by(images, flip=True)
    mirrored = np.array([np.array_equal(a, b[:, ::-1]) for a, b in zip(changed, images, strict=True)])
    kept = np.array([np.array_equal(a, b) for a, b in zip(changed, images, strict=True)])
    assert np.all(mirrored ^ kept)
    assert 150 < mirrored.sum() < 250


def test_brightness_adds_a_share_of_the_full_range():
    images = 0.4 + 0.2 * charted(200)
    added = changed_by(images, brightness=0.3) - images
    np.testing.assert_allclose(np.ptp(added, axis=(1, 2, 3)), 0, atol=1e-6)
    amounts = added.mean(axis=(1, 2, 3))
    assert -0.3 <= amounts.min() < -0.27
    assert 0.27 < amounts.max() <= 0.3


def test_contrast_multiplies_distances_from_the_mean_of_the_image():
    images = 0.3 + 0.4 * charted(200)
    changed = changed_by(images, contrast=0.5)
    means = images.mean(axis=(1, 2, 3), keepdims=True)
    factors = (changed - means).std(axis=(1, 2, 3), keepdims=True) / images.std(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(changed, means + factors * (images - means), atol=1e-5)
    assert 0.5 <= factors.min() < 0.55
    assert 1.45 < factors.max() <= 1.5


@pytest.mark.parametrize("value", [0.0, 0.6, 1.0])
def test_the_border_is_repeated_so_that_an_even_image_stays_even(value: float):
    """Zeros from beyond the border would show as an edge."""
    amounts = {"rotation": 90, "scale": 0.9, "shear": 0.9, "shift": 40, "elastic": 5}
    even = np.full((20, HEIGHT, WIDTH, 1), value, np.float32)
    np.testing.assert_allclose(changed_by(even, **amounts), even, atol=1e-6)


def test_what_is_shifted_out_of_sight_leaves_the_border():
    images = charted(30)
    changed = changed_by(images, shift=1000.0)
    corners = images[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    alone = [
        np.all(ours == ours[0, 0]) and np.any(np.all(colours == ours[0, 0], axis=-1))
        for ours, colours in zip(changed, corners, strict=True)
    ]
    assert np.mean(alone) > 0.8


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), binary=st.booleans())
def test_the_range_stays_from_0_to_1(seed: int, binary: bool):
    images = charted(4, seed)
    images = np.round(images) if binary else images
    for amounts in (EVERYTHING, Augmentation(rotation=180, shift=5, elastic=3)):
        ours = changed_by(images, seed=seed, **dataclasses.asdict(amounts))
        assert ours.shape == images.shape
        assert ours.min() >= 0
        assert ours.max() <= 1


def test_each_image_has_amounts_of_its_own():
    same = np.repeat(charted(1), 20, axis=0)
    for name in (
        "rotation", "shear", "shift", "elastic", "brightness", "contrast", "crop_scale", "saturation", "hue"
    ):  # fmt: skip
        changed = changed_by(same, **{name: 0.3})
        assert len({image.tobytes() for image in changed}) == 20, name


def test_an_image_is_changed_without_regard_to_the_others():
    images = charted()
    others = np.concatenate([images[:1], charted(seed=1)[1:]])
    change = partial(compiled, jax.random.key(0), amounts=EVERYTHING)
    np.testing.assert_allclose(change(images)[0], change(others)[0], atol=1e-6)


def test_channels_are_moved_alike():
    grey = np.repeat(charted()[..., 2:], 3, axis=-1)
    changed = np.asarray(compiled(jax.random.key(0), grey, EVERYTHING))
    np.testing.assert_allclose(changed, changed[..., :1] * np.ones(3), atol=1e-6)


def test_bfloat16_images_are_changed_like_float32_ones():
    images = jnp.asarray(charted(), jnp.bfloat16)
    ours = augment(jax.random.key(0), images, EVERYTHING)
    wide = augment(jax.random.key(0), images.astype(jnp.float32), EVERYTHING)
    np.testing.assert_allclose(np.float32(ours), wide, atol=0.02)


def test_from_the_step_at_which_it_stops_images_stay_as_they_are():
    amounts = Augmentation(rotation=20.0, flip=True, stop_at=5)
    key, images = jax.random.key(0), charted(4)
    at_step = jax.jit(partial(augment_at_step, amounts=amounts))
    changed = compiled(key, images, amounts=amounts)
    assert np.abs(changed - images).max() > 0.1
    for step in (0, 4):
        np.testing.assert_allclose(at_step(step, key, images), changed, atol=1e-6)
    for step in (5, 6):
        np.testing.assert_array_equal(at_step(step, key, images), images)
    endless = jax.jit(partial(augment_at_step, amounts=dataclasses.replace(amounts, stop_at=0)))
    np.testing.assert_allclose(endless(10**6, key, images), changed, atol=1e-6)


@partial(jax.jit, static_argnames=("amounts", "of_class", "class_size"))
def moved_classes(step, images, amounts, of_class, class_size=3):
    return augment_classes_at_step(step, jax.random.key(2), images, amounts, of_class, class_size)


SMOOTH = np.kron(np.random.default_rng(1).random((6, 4, 4, 1)), np.ones((1, 5, 5, 1))).astype(np.float32)
MOVED = Augmentation(rotation=20, shear=0.2, shift=2, elastic=1.5, stop_at=5)


def test_images_of_a_class_are_moved_alike_and_those_of_others_otherwise():
    same = np.repeat(SMOOTH[:1], 6, axis=0)
    moved = np.asarray(moved_classes(0, same, Augmentation(), MOVED))
    np.testing.assert_array_equal(moved[0], moved[2])
    np.testing.assert_array_equal(moved[3], moved[5])
    assert np.abs(moved[0] - moved[3]).max() > 0.1 < np.abs(moved[0] - same[0]).max()


def test_classes_stay_as_they_are_from_the_step_on_that_says_so():
    own = Augmentation(rotation=10)
    np.testing.assert_array_equal(moved_classes(5, SMOOTH, Augmentation(), MOVED), SMOOTH)
    plain = augment(jax.random.key(2), jnp.asarray(SMOOTH), own)
    np.testing.assert_allclose(moved_classes(5, SMOOTH, own, MOVED), plain, atol=1e-4)
    ended = dataclasses.replace(own, stop_at=3)
    np.testing.assert_array_equal(
        moved_classes(4, SMOOTH, ended, MOVED), moved_classes(4, SMOOTH, Augmentation(), MOVED)
    )


def test_a_class_is_moved_before_its_images_are():
    """The shift of an image follows the turn of its class: channels tell where each pixel came from."""
    rows, columns = np.meshgrid(np.arange(31.0), np.arange(31.0), indexing="ij")
    images = np.tile(np.stack([rows, columns], axis=-1).astype(np.float32), (6, 1, 1, 1))
    turn, shift = Augmentation(rotation=90), Augmentation(shift=3)
    turned = np.asarray(moved_classes(0, images, Augmentation(), turn))
    both = np.asarray(moved_classes(0, images, shift, turn))
    centre = slice(12, 19)
    for image in range(6):
        steps = both[image] - turned[image]
        difference = steps[centre, centre].reshape(-1, 2)
        np.testing.assert_allclose(difference, np.broadcast_to(difference[0], difference.shape), atol=1e-2)
        assert 0 < np.abs(difference[0]).max() <= 3 * np.sqrt(2)
    assert np.ptp(both[:3], axis=0).max() > 0.5
