"""Characters turned and scaled, and pieces of strokes, against SciPy and NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from fsljax.detection.data.scenes.ink import (
    Drawings,
    SceneOptions,
    _warp,
    render_characters,
    render_fragments,
)

SIDE = 64


def line_and_dot() -> Drawings:
    images = np.zeros((2, 1, SIDE, SIDE), np.uint8)
    images[0, 0, 30:33, 2:62] = 255
    images[1, 0, 30:33, 30:33] = 255
    return Drawings(jnp.asarray(images))


def test_warp_is_bilinear_sampling_at_turned_and_scaled_places():
    random = np.random.default_rng(0)
    pictures = random.random((3, SIDE, SIDE)).astype(np.float32)
    centres = np.array([[31.5, 31.5], [20.0, 40.0], [60.0, 3.0]], np.float32)
    angles, scales = np.array([0.0, 0.3, -2.0], np.float32), np.array([1.0, 1.7, 1.2], np.float32)
    warped = np.asarray(jax.jit(_warp, static_argnums=4)(pictures, centres, angles, scales, 40))

    offsets = np.arange(40) - 19.5
    rows, columns = np.meshgrid(offsets, offsets, indexing="ij")
    for number in range(3):
        cosine, sine = np.cos(np.float64(angles[number])), np.sin(np.float64(angles[number]))
        places = np.array([cosine * rows - sine * columns, sine * rows + cosine * columns]) / scales[number]
        places += centres[number].astype(np.float64)[:, None, None]
        expected = map_coordinates(pictures[number].astype(np.float64), places, order=1, mode="grid-constant")
        np.testing.assert_allclose(warped[number], expected, atol=1e-4)


def test_smaller_pictures_keep_the_brightness_of_thin_strokes():
    picture = np.zeros((2, SIDE, SIDE), np.float32)
    picture[0, 31], picture[1, :, 30] = 1.0, 1.0
    halved = _warp(picture, np.full((2, 2), 31.5, np.float32), np.zeros(2), np.full(2, 0.5), 24)
    # A line one pixel wide, half as large, has half a pixel's ink in every column (row) it crosses.
    np.testing.assert_allclose(np.asarray(halved[0]).sum(0), 0.5, atol=0.01)
    np.testing.assert_allclose(np.asarray(halved[1]).sum(1), 0.5, atol=0.01)


def test_characters_have_the_asked_sides_and_tight_boxes():
    options = SceneOptions(sides=(24.0, 48.0), strength=(1.0, 1.0))
    labels = jnp.zeros(64, jnp.int32)
    ink = render_characters(jax.random.split(jax.random.key(0), 64), line_and_dot(), labels, options)
    heights, widths = np.asarray(ink.boxes[:, 2:] - ink.boxes[:, :2]).T
    longer = np.maximum(heights, widths)
    assert longer.min() >= 22 and longer.max() <= 50
    assert np.ptp(longer) > 15
    assert heights.max() > 10  # turned by up to 20°: 48 · sin 20° = 16
    for patch, box in zip(np.asarray(ink.patches), np.asarray(ink.boxes), strict=True):
        rows, columns = np.nonzero(patch > 0.3)
        assert box.tolist() == [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]


def test_small_drawings_are_enlarged_to_the_double_at_most():
    keys = jax.random.split(jax.random.key(0), 64)
    ink = render_characters(keys, line_and_dot(), jnp.ones(64, jnp.int32), SceneOptions())
    assert np.asarray(ink.boxes[:, 2:] - ink.boxes[:, :2]).max() <= 9  # twice 3, and the turned corners


@pytest.mark.parametrize("character", [0, 1])
def test_a_fragment_is_no_more_than_a_third_of_its_character(character):
    options = SceneOptions(sides=(60.0, 60.0), fragments=(32, 32), strength=(1.0, 1.0))
    one = Drawings(line_and_dot().images[character][None])
    pieces, places = render_fragments(jax.random.key(1), one, options)
    assert places.shape == (32, 2)
    scale, ink = ((1, 3 * 60), (2, 3 * 3))[character]
    amounts = np.asarray(pieces).sum((1, 2))
    assert (amounts > 0).all() and amounts.max() <= 1.05 * ink * scale**2 / 3
    for piece in np.asarray(pieces) > 0.3:
        rows, columns = np.nonzero(piece)
        extent = np.hypot(np.ptp(rows) + 1, np.ptp(columns) + 1) if len(rows) else 0
        assert extent <= np.hypot(60 / 3 + 2, 3 + 2)


def test_no_fragments_can_be_asked_for():
    pieces, _ = render_fragments(jax.random.key(1), line_and_dot(), SceneOptions(fragments=(0, 0)))
    assert len(pieces) == 0
