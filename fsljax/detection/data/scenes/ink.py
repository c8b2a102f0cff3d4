"""The ink of scenes: characters turned and scaled, and pieces of their strokes."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fsljax.detection.config import SceneOptions

_INK_THRESHOLD = 0.3  # what a box is tight to
_LARGEST_SCALE = 2.0  # beyond it, the strokes of a small drawing become blots


class Drawings(NamedTuple):
    """Single characters to make scenes of.

    Attributes:
      images: uint8 `[characters, drawings, side, side]`; ink is 255, paper 0.
    """

    images: jax.Array


class Ink(NamedTuple):
    """Rendered characters `[n, patch, patch]` and the boxes of their ink, int `[n, 4]`, in the patch."""

    patches: jax.Array
    boxes: jax.Array


def some_of(key: jax.Array, limits: tuple[int, int]) -> jax.Array:
    """Which of `limits[1]` rows are there, the first ones: bool `[limits[1]]`."""
    return jnp.arange(limits[1]) < jax.random.randint(key, (), limits[0], limits[1] + 1)


def uniform(key: jax.Array, shape: tuple[int, ...], limits: tuple[float, float]) -> jax.Array:
    return jax.random.uniform(key, shape, minval=limits[0], maxval=limits[1])


def _between_in_logarithm(limits: tuple[float, float], share: jax.Array) -> jax.Array:
    return limits[0] * (limits[1] / limits[0]) ** share


def _pick(key: jax.Array, drawings: Drawings, labels: jax.Array) -> jax.Array:
    """A random drawing of each character, float `[n, side, side]` in [0, 1]."""
    chosen = jax.random.randint(key, labels.shape, 0, drawings.images.shape[1])
    return drawings.images[labels, chosen].astype(jnp.float32) / 255


def render_characters(keys: jax.Array, drawings: Drawings, labels: jax.Array, options: SceneOptions) -> Ink:
    """Renders characters `[n]`, turned and scaled by a key each, each in the middle of a patch."""
    pick_keys, keys = jnp.moveaxis(jax.vmap(partial(jax.random.split, num=2))(keys), 1, 0)
    picked = jax.vmap(_pick, (0, None, 0))(pick_keys, drawings, labels)
    turn, size, dark = jax.vmap(lambda key: jax.random.uniform(key, (3,)))(keys).T
    angles = jnp.deg2rad(options.rotation) * (2 * turn - 1)
    sides = _between_in_logarithm(options.sides, size)
    extents = _ink_box(picked)
    centres = (extents[:, :2] + extents[:, 2:] - 1) / 2
    height, width = (extents[:, 2:] - extents[:, :2]).T
    cosine, sine = jnp.cos(angles), jnp.abs(jnp.sin(angles))
    turned = jnp.maximum(height * cosine + width * sine, width * cosine + height * sine)
    patch = 4 * (int(options.sides[1] + 3) // 4 + 1)
    # The barrier keeps the compiler from rendering once for the boxes and once more for the image.
    patches = jax.lax.optimization_barrier(_warp(picked, centres, angles, _scales(sides, turned), patch))
    boxes = _ink_box(patches)
    strengths = options.strength[0] + (options.strength[1] - options.strength[0]) * dark
    return Ink(patches * strengths[:, None, None], boxes)


def render_fragments(
    key: jax.Array, drawings: Drawings, options: SceneOptions
) -> tuple[jax.Array, jax.Array]:
    """Pieces of strokes, `[n, patch, patch]`, and where their centres go, int `[n, 2]`.

    A piece with more than a third of its character's ink is left out.
    """
    keys = jax.random.split(key, 8)
    count = options.fragments[1]
    labels = jax.random.randint(keys[0], (count,), 0, len(drawings.images))
    picked = _pick(keys[1], drawings, labels)
    extents = _ink_box(picked)
    longer = jnp.max(extents[:, 2:] - extents[:, :2], axis=1).astype(jnp.float32)
    centres = jax.vmap(_point_of_ink)(jax.random.split(keys[2], count), picked)
    diameters = longer * uniform(keys[3], (count,), (0.2, 1 / 3))
    cut, centres = jax.vmap(_round_window)(picked, centres, diameters)
    fits = 3 * cut.sum((1, 2)) <= picked.sum((1, 2))
    sides = _between_in_logarithm(options.sides, jax.random.uniform(keys[4], (count,)))
    angles = uniform(keys[5], (count,), (0.0, 2 * jnp.pi))
    patch = 4 * (int(options.sides[1] / 3 + 3) // 4 + 1)
    shown = fits & some_of(keys[6], options.fragments)
    place_key, strength_key = jax.random.split(keys[7])
    strengths = shown * uniform(strength_key, (count,), options.strength)
    pieces = _warp(cut, centres, angles, _scales(sides, longer), patch) * strengths[:, None, None]
    return pieces, jax.random.randint(place_key, (count, 2), 0, options.size)


def _scales(sides: jax.Array, extents: jax.Array) -> jax.Array:
    return jnp.minimum(sides / jnp.maximum(extents, 1.0), _LARGEST_SCALE)


def _point_of_ink(key: jax.Array, picture: jax.Array) -> jax.Array:
    """A random pixel of `[side, side]`, as likely as it is inked: int `[2]`."""
    row_key, column_key = jax.random.split(key)
    row = _drawn_by_weight(row_key, picture.sum(1))
    return jnp.stack([row, _drawn_by_weight(column_key, picture[row])])


def _drawn_by_weight(key: jax.Array, weights: jax.Array) -> jax.Array:
    heights = jnp.cumsum(weights)
    return jnp.argmax(heights > heights[-1] * jax.random.uniform(key))


def _round_window(picture: jax.Array, centre: jax.Array, diameter: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What a round window about a pixel shows of `[side, side]`: a cut-out, and where the pixel is in it."""
    side = picture.shape[-1]
    window = min(side, side // 3 + 3)
    start = jnp.clip(centre - window // 2, 0, side - window)
    cut = jax.lax.dynamic_slice(picture, (start[0], start[1]), (window, window))
    at = centre - start
    there = jnp.arange(window)
    distances = (there[:, None] - at[0]) ** 2 + (there[None, :] - at[1]) ** 2
    return cut * (distances <= (diameter / 2) ** 2), at.astype(jnp.float32)


def _warp(
    pictures: jax.Array, centres: jax.Array, angles: jax.Array, scales: jax.Array, patch: int
) -> jax.Array:
    """Pictures `[n, side, side]`, turned and scaled about centres in pixels, in patches; zeros outside."""
    side = pictures.shape[-1]
    offsets = jnp.arange(patch) - (patch - 1) / 2
    rows, columns = offsets[None, :, None], offsets[None, None, :]
    cosine, sine = ((jnp.cos(angles) / scales)[:, None, None], (jnp.sin(angles) / scales)[:, None, None])
    row = jnp.clip(cosine * rows - sine * columns + centres[:, 0, None, None] + 1, 0.0, side + 1.0)
    column = jnp.clip(sine * rows + cosine * columns + centres[:, 1, None, None] + 1, 0.0, side + 1.0)
    top, left = row.astype(jnp.int32), column.astype(jnp.int32)
    down, right = row - top, column - left
    bordered = jnp.pad(_smoothed(pictures, scales), ((0, 0), (1, 2), (1, 2)))
    width = side + 3
    flat, at = bordered.reshape(len(pictures), width * width), top * width + left
    take = jax.vmap(lambda values, index: values.at[index].get(mode="promise_in_bounds"))
    upper = take(flat, at) * (1 - right) + take(flat, at + 1) * right
    lower = take(flat, at + width) * (1 - right) + take(flat, at + width + 1) * right
    return upper * (1 - down) + lower * down


def _smoothed(pictures: jax.Array, scales: jax.Array) -> jax.Array:
    """Spreads ink over neighbours where pictures will be made smaller, so that thin strokes stay whole."""
    share = (0.25 * jnp.clip(2 - 2 * scales, 0.0, 1.0))[:, None, None]
    for axis in (1, 2):
        around = jnp.pad(pictures, [(0, 0), *((1, 1) if a == axis else (0, 0) for a in (1, 2))])
        before = jax.lax.slice_in_dim(around, 0, pictures.shape[axis], axis=axis)
        after = jax.lax.slice_in_dim(around, 2, None, axis=axis)
        pictures = (1 - 2 * share) * pictures + share * (before + after)
    return pictures


def _ink_box(pictures: jax.Array) -> jax.Array:
    """Boxes of the ink of `[n, side, side]`, int `[n, 4]`, the far edges excluded; zeros for none."""
    inked = pictures > _INK_THRESHOLD
    sides = []
    for axis in (2, 1):
        lines = jnp.any(inked, axis=axis)
        low = jnp.argmax(lines, axis=1)
        high = lines.shape[1] - jnp.argmax(lines[:, ::-1], axis=1)
        sides.append((low, jnp.where(jnp.any(lines, axis=1), high, low)))
    (y_min, y_max), (x_min, x_max) = sides
    return jnp.stack([y_min, x_min, y_max, x_max], axis=1)
