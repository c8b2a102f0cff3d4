"""Composes scenes for detection on the device: characters and stroke fragments, reproducible by key."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fsljax.detection.config import SceneOptions
from fsljax.detection.data.scenes.ink import (
    Drawings,
    Ink,
    render_characters,
    render_fragments,
    some_of,
    uniform,
)

__all__ = ["Drawings", "Scene", "SceneOptions", "draw_scene", "draw_scenes"]

_OPTIONS = SceneOptions()
_TRIES = 12  # positions of which a character takes the first that is free


class Scene(NamedTuple):
    """An image and its objects, padded with zero rows where mask is False; a batch has one more leading axis.

    Attributes:
      image: float32 `[size, size, 1]`, in [0, 1].
      boxes: float32 `[characters, 4]`, `[y_min, x_min, y_max, x_max]` in pixels, tight to the ink.
      labels: int32 `[characters]`, numbers of characters in `Drawings`.
      mask: bool `[characters]`, True for rows that hold an object.
    """

    image: jax.Array
    boxes: jax.Array
    labels: jax.Array
    mask: jax.Array


def draw_scene(
    key: jax.Array,
    drawings: Drawings,
    allowed: jax.Array,
    distractors: jax.Array | None = None,
    *,
    clutter: Drawings | None = None,
    first: jax.Array | int | None = None,
    options: SceneOptions = _OPTIONS,
) -> Scene:
    """Draws one scene, fully determined by `key`.

    With distractors, the scene is the same except for further characters that are not among its objects.

    Args:
      key: a JAX random key.
      drawings: the characters that `allowed` and `distractors` index; pass it to jitted functions as an
        argument, because values they close over are compiled in as constants.
      allowed: int `[a]`, characters to choose from, all equally likely; a character may appear several times.
      distractors: int `[d]`, characters to draw distractors from; None: no distractors.
      clutter: drawings whose strokes are used as fragments; None: `drawings`.
      first: the character of row 0, which is always placed; None: any of `allowed`.
      options: appearance of the scene.

    Returns:
      A scene of `options.characters[1]` rows.
    """
    keys = jax.random.split(key, 7)
    slots = options.characters[1]
    labels = allowed[jax.random.randint(keys[0], (slots,), 0, len(allowed))].astype(jnp.int32)
    if first is not None:
        labels = labels.at[0].set(first)
    asked_for = some_of(keys[1], options.characters)
    if distractors is not None:
        count_key, choice_key = jax.random.split(jax.random.fold_in(key, 1))
        chosen = jax.random.randint(choice_key, (options.distractors[1],), 0, len(distractors))
        labels = jnp.concatenate([labels, distractors[chosen].astype(jnp.int32)])
        asked_for = jnp.concatenate([asked_for, some_of(count_key, options.distractors)])
    # Keys of each character's own: nothing about one hangs on how many come after it.
    keys_of_each = jax.vmap(jax.random.fold_in, (None, 0))
    numbers = jnp.arange(len(labels))
    ink = render_characters(keys_of_each(keys[2], numbers), drawings, labels, options)
    corners, boxes, placed = _places(keys_of_each(keys[3], numbers), ink, asked_for, options)
    fragments, centres = render_fragments(keys[4], drawings if clutter is None else clutter, options)
    canvas = _paste(ink.patches * placed[:, None, None], corners - ink.boxes[:, :2], options.size)
    canvas += _paste(fragments, centres - fragments.shape[-1] // 2, options.size)
    there_first = jnp.argsort(~placed[:slots])
    mask = placed[there_first]
    return Scene(
        image=_lit(keys[5], keys[6], jnp.minimum(canvas, 1.0), options)[..., None],
        boxes=jnp.where(mask[:, None], boxes[there_first], 0).astype(jnp.float32),
        labels=jnp.where(mask, labels[there_first], 0),
        mask=mask,
    )


@partial(jax.jit, static_argnames="options")
def draw_scenes(
    keys: jax.Array,
    drawings: Drawings,
    allowed: jax.Array,
    distractors: jax.Array | None = None,
    *,
    clutter: Drawings | None = None,
    first: jax.Array | None = None,
    options: SceneOptions = _OPTIONS,
) -> Scene:
    """Draws a scene for each key, `[n]`; `first` is int `[n]` or None; see `draw_scene`."""

    def draw(key: jax.Array, first: jax.Array | None) -> Scene:
        return draw_scene(key, drawings, allowed, distractors, clutter=clutter, first=first, options=options)

    return jax.vmap(draw)(keys, first)


def _places(
    keys: jax.Array, ink: Ink, asked_for: jax.Array, options: SceneOptions
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Finds a place for each character, one after another.

    Returns:
      Upper left corners int `[n, 2]`, boxes int `[n, 4]`, and bool `[n]`, who has a place.
    """
    extents = ink.boxes[:, 2:] - ink.boxes[:, :2]
    count = len(asked_for)

    def place(number: int | jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        boxes, placed = state
        room = jnp.maximum(options.size - extents[number], 0)
        tried = jax.random.randint(keys[number], (_TRIES, 2), 0, room + 1)
        candidates = jnp.concatenate([tried, tried + extents[number]], axis=1)
        free = jnp.all(_apart(candidates, boxes, options) | ~placed, axis=1)
        chosen = candidates[jnp.argmax(free)]
        has_place = asked_for[number] & jnp.any(free) & jnp.all(extents[number] > 0)
        return boxes.at[number].set(chosen), placed.at[number].set(has_place)

    start = jnp.zeros((count, 4), extents.dtype), jnp.zeros(count, bool)
    boxes, placed = jax.lax.fori_loop(0, count, place, start)
    return boxes[:, :2], boxes, placed


def _apart(candidates: jax.Array, boxes: jax.Array, options: SceneOptions) -> jax.Array:
    """Whether boxes overlap no more than allowed, bool `[candidates, boxes]`."""
    low = jnp.maximum(candidates[:, None, :2], boxes[None, :, :2])
    high = jnp.minimum(candidates[:, None, 2:], boxes[None, :, 2:])
    shared = jnp.prod(jnp.maximum(high - low, 0), axis=-1)
    first = jnp.prod(candidates[:, 2:] - candidates[:, :2], axis=1)[:, None]
    second = jnp.prod(boxes[:, 2:] - boxes[:, :2], axis=1)[None, :]
    within_iou = shared <= options.max_iou * (first + second - shared)
    return within_iou & (shared <= options.max_covered * jnp.minimum(first, second))


def _paste(patches: jax.Array, corners: jax.Array, size: int) -> jax.Array:
    """The sum of patches `[n, patch, patch]` laid at corners; what lies outside the image is cut off.

    Products with rows of the unit matrix: under vmap an update of a slice would become a scatter, which is
    slow on the CPU.
    """
    there = jnp.arange(patches.shape[-1])
    rows = (corners[:, 0, None] + there)[:, None, :] == jnp.arange(size)[None, :, None]
    columns = (corners[:, 1, None] + there)[:, :, None] == jnp.arange(size)[None, None, :]
    wide = jnp.einsum("npq,nqx->npx", patches, columns.astype(jnp.float32), precision="highest")
    return jnp.einsum("nyp,npx->yx", rows.astype(jnp.float32), wide, precision="highest")


def _lit(light_key: jax.Array, noise_key: jax.Array, ink: jax.Array, options: SceneOptions) -> jax.Array:
    """Ink on paper, `[size, size]`, under uneven light and with noise."""
    keys = jax.random.split(light_key, 5)
    paper = uniform(keys[0], (), options.paper)
    image = paper + uniform(keys[1], (), options.contrast) * ink
    image = jnp.where(jax.random.bernoulli(keys[2], options.inverted), 1 - image, image)
    down, right = options.shading * jax.random.uniform(keys[3], (2, 1), minval=-1.0)
    along = jnp.linspace(-0.5, 0.5, options.size)
    light = (down * along)[:, None] + (right * along)[None, :]
    noise = uniform(keys[4], (), options.noise) * jax.random.normal(noise_key, ink.shape)
    return jnp.clip(image + light + noise, 0.0, 1.0)
