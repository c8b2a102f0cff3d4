"""Scenes: what is in them, that the truths are true, and that keys alone decide."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.detection.data.scenes.composition import (
    Drawings,
    Scene,
    SceneOptions,
    _lit,
    draw_scene,
    draw_scenes,
)

KEYS = jax.random.split(jax.random.key(0), 64)
ALLOWED = jnp.array([1, 4, 5])
PLAIN = SceneOptions(
    fragments=(0, 0),
    strength=(1.0, 1.0),
    contrast=(1.0, 1.0),
    paper=(0.0, 0.0),
    shading=0.0,
    noise=(0.0, 0.0),
)


@pytest.fixture(scope="module")
def drawings() -> Drawings:
    """Eight characters of two drawings, each of three bars."""
    random = np.random.default_rng(0)
    images = np.zeros((8, 2, 64, 64), np.uint8)
    for image in images.reshape(-1, 64, 64):
        for _ in range(3):
            row, column = random.integers(8, 30, 2)
            high, wide = random.permutation([3, random.integers(10, 26)])
            image[row : row + high, column : column + wide] = 255
    return Drawings(jnp.asarray(images))


@pytest.fixture(scope="module")
def scenes(drawings: Drawings) -> Scene:
    return jax.device_get(draw_scenes(KEYS, drawings, ALLOWED, first=jnp.repeat(ALLOWED, 22)[:64]))


@pytest.fixture(scope="module")
def plain(drawings: Drawings) -> Scene:
    """Scenes of nothing but ink."""
    return jax.device_get(draw_scenes(KEYS, drawings, ALLOWED, options=PLAIN))


def test_shapes_and_ranges(scenes):
    assert scenes.image.shape == (64, 128, 128, 1) and scenes.image.dtype == np.float32
    assert scenes.boxes.shape == (64, 6, 4) and scenes.boxes.dtype == np.float32
    assert scenes.labels.shape == scenes.mask.shape == (64, 6)
    assert scenes.image.min() >= 0 and scenes.image.max() <= 1
    counts = scenes.mask.sum(axis=1)
    assert set(counts) == {1, 2, 3, 4, 5, 6}
    # Rows that are not there come last and are zeros.
    assert (scenes.mask == (np.arange(6) < counts[:, None])).all()
    assert not scenes.boxes[~scenes.mask].any() and not scenes.labels[~scenes.mask].any()
    assert set(scenes.labels[scenes.mask]) == set(ALLOWED.tolist())
    assert (scenes.labels[:, 0] == np.repeat(ALLOWED, 22)[:64]).all()


def test_boxes_lie_in_the_image_and_overlap_no_more_than_allowed(scenes):
    overlaps = 0
    for boxes, mask in zip(scenes.boxes, scenes.mask, strict=True):
        there = boxes[mask].astype(int)
        assert (there[:, :2] >= 0).all() and (there[:, 2:] <= 128).all()
        assert (there[:, 2:] > there[:, :2]).all()
        pixels = np.zeros((len(there), 128, 128), bool)
        for number, (y_min, x_min, y_max, x_max) in enumerate(there):
            pixels[number, y_min:y_max, x_min:x_max] = True
        for a in range(len(there)):
            for b in range(a):
                shared = (pixels[a] & pixels[b]).sum()
                assert shared <= 0.25 * (pixels[a] | pixels[b]).sum()
                assert shared <= 0.5 * min(pixels[a].sum(), pixels[b].sum())
                overlaps += shared > 0
    assert overlaps > 20


def test_boxes_are_tight_to_the_ink_of_the_image(plain):
    alone = plain.mask.sum(axis=1) == 1
    assert alone.sum() >= 5
    for image, box in zip(plain.image[alone, :, :, 0], plain.boxes[alone, 0], strict=True):
        rows, columns = np.nonzero(image > 0.3)
        assert box.tolist() == [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]


def test_distractors_change_the_image_and_not_the_truths(drawings, plain):
    others = jax.device_get(draw_scenes(KEYS, drawings, ALLOWED, jnp.array([0, 2, 3]), options=PLAIN))
    for field in ("boxes", "labels", "mask"):
        np.testing.assert_array_equal(getattr(plain, field), getattr(others, field))
    added = others.image - plain.image
    assert added.min() >= -1e-6
    assert ((added > 0.5).sum(axis=(1, 2, 3)) > 20).mean() > 0.9


def test_a_scene_follows_from_its_key_alone(drawings, scenes):
    single = jax.jit(draw_scene)(KEYS[3], drawings, ALLOWED, first=ALLOWED[0])
    np.testing.assert_array_equal(single.boxes, scenes.boxes[3])
    np.testing.assert_array_equal(single.labels, scenes.labels[3])
    np.testing.assert_allclose(single.image, scenes.image[3], atol=1e-5)
    assert len({image.tobytes() for image in scenes.image}) == 64


def test_clutter_is_of_the_drawings_given_for_it(drawings, plain):
    blank = Drawings(jnp.zeros_like(drawings.images))
    draw = partial(draw_scenes, KEYS, drawings, ALLOWED, options=replace(PLAIN, fragments=(8, 16)))
    np.testing.assert_allclose(draw(clutter=blank).image, plain.image, atol=1e-6)
    assert (np.abs(np.asarray(draw(clutter=drawings).image) - plain.image).max(axis=(1, 2, 3)) > 0.5).all()


def test_light_and_noise_are_as_asked():
    dark = replace(PLAIN, paper=(0.4, 0.4), contrast=(0.3, 0.3), noise=(0.05, 0.05), inverted=1.0)
    ink = jnp.zeros((128, 128)).at[:64].set(1.0)
    image = np.asarray(_lit(KEYS[0], KEYS[1], ink, dark))
    for half, brightness in ((image[:64], 0.3), (image[64:], 0.6)):
        assert half.mean() == pytest.approx(brightness, abs=3e-3)
        assert half.std() == pytest.approx(0.05, rel=0.05)


def test_light_falls_off_by_no_more_than_asked():
    shaded = replace(PLAIN, paper=(0.5, 0.5), shading=0.2)
    images = jax.vmap(lambda key: _lit(key, key, jnp.zeros((128, 128)), shaded))(KEYS)
    down = np.asarray(images[:, -1, 0] - images[:, 0, 0])
    assert np.abs(down).max() <= 0.2 + 1e-6 and down.min() < -0.1 and down.max() > 0.1


def test_a_drawing_without_ink_is_no_object(drawings, plain):
    blank = Drawings(drawings.images.at[ALLOWED[0]].set(0))
    drawn = draw_scenes(KEYS, blank, ALLOWED, options=PLAIN)
    assert set(np.asarray(drawn.labels)[np.asarray(drawn.mask)]) == set(ALLOWED[1:].tolist())
