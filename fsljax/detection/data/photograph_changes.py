"""Random changes of photographs and of their boxes, computed on the device in training steps."""

from __future__ import annotations

from dataclasses import fields
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fsljax.config import sections as shared
from fsljax.data.augmentation import augment
from fsljax.detection.config import Augmentation
from fsljax.detection.data.structures import GroundTruth
from fsljax.errors import UserError
from fsljax.parallel import shares
from fsljax.parallel.shares import Among, drawn

LEAST_VISIBLE = 0.4  # share of an object that must be left of it to be learned
LEAST_SIDE = 2.0  # pixels

UNCHANGED = Augmentation()

_COLOURS = ("brightness", "contrast", "saturation", "hue")


class Photos(NamedTuple):
    """Float images `[n, side, side, 3]` in [0, 1], zeros beyond their sizes `[n, 2]`, and what is in them."""

    images: jax.Array
    ground_truth: GroundTruth
    sizes: jax.Array


def changed(key: jax.Array, photos: Photos, amounts: Augmentation) -> Photos:
    """Photographs zoomed and in other colours.

    Args:
      key: of the changes.
      photos: this device's share of a step's.
      amounts: how far; `check_amounts` says which of them there are.
    """
    zoom_key, colour_key = jax.random.split(key)
    among = shares.among(len(photos.images))
    if amounts.zooms():
        photos = zoomed(zoom_key, photos, amounts.zoom, amounts.stretch, among)
    colours = {name: getattr(amounts, name) for name in _COLOURS}
    images = augment(colour_key, photos.images, shared.Augmentation(**colours), among=among)
    return photos._replace(images=jnp.where(_inside(photos), images, 0.0))


def check_amounts(amounts: Augmentation) -> None:
    """Raises a UserError for changes that boxes cannot follow, and for those that are asked for elsewhere."""
    if amounts.zoom[0] > amounts.zoom[1]:
        raise UserError(
            f"config.augment.zoom is {tuple(amounts.zoom)}; the first number must not exceed the second."
        )
    for one in fields(shared.Augmentation):
        if one.name not in (*_COLOURS, "stretch") and getattr(amounts, one.name) != one.default:
            raise UserError(
                f"config.augment.{one.name} is {getattr(amounts, one.name)}, but photographs with boxes are "
                f"changed by zoom, stretch, {', '.join(_COLOURS)} and config.train.flip: leave it at "
                f"{one.default}."
            )


def zoomed(
    key: jax.Array,
    photos: Photos,
    zoom: tuple[float, float],
    stretch: float = 0.0,
    among: Among | None = None,
) -> Photos:
    """Each photograph larger or smaller; of one that outgrows its square, a part at random.

    Large-scale jittering (Ghiasi et al., 2021, https://arxiv.org/abs/2012.07177, section 3). An object of
    which less than 0.4 is left, or no 2 pixels, becomes difficult: it is neither learned nor background.

    Args:
      key: a JAX random key.
      photos: `n` of them.
      zoom: limits of the factor, which is drawn uniformly in its logarithm.
      stretch: by what share the width changes against the height at most, uniformly.
      among: which photographs of a batch these are; None: all of them.
    """
    images, truth, sizes = photos
    draws = drawn(lambda count: jax.random.uniform(key, (4, count)), len(images), among, axis=1)
    low, high = (jnp.log(limit) for limit in zoom)
    factor = jnp.exp(low + (high - low) * draws[0])
    wider = jnp.sqrt(1 + stretch * (2 * draws[1] - 1))
    factors = jnp.stack([factor / wider, factor * wider], axis=1)
    side = images.shape[1]
    whole = jnp.maximum(jnp.round(sizes * factors), 1.0)
    factors = whole / sizes
    starts = jnp.floor(draws[2:].T * (jnp.maximum(whole - side, 0.0) + 1))
    kept = jnp.minimum(whole, side)
    rows, columns = (
        _weights(starts[:, axis], factors[:, axis], kept[:, axis], sizes[:, axis], side) for axis in (0, 1)
    )
    # Two small matrix products an image: gathering its pixels would take longer on a CPU.
    images = jnp.einsum("nip,npqc->niqc", rows, images)
    images = jnp.einsum("njq,niqc->nijc", columns, images)
    boxes = jnp.asarray(truth.boxes) * jnp.tile(factors, 2)[:, None] - jnp.tile(starts, 2)[:, None]
    visible = jnp.clip(boxes, 0.0, jnp.tile(kept, 2)[:, None])
    difficult = truth.mask & (_left(boxes, visible) < LEAST_VISIBLE)
    difficult |= truth.mask & (jnp.min(visible[..., 2:] - visible[..., :2], axis=-1) < LEAST_SIDE)
    if truth.difficult is not None:
        difficult |= jnp.asarray(truth.difficult)
    truth = truth._replace(boxes=jnp.where(truth.mask[..., None], visible, 0.0), difficult=difficult)
    return Photos(images, truth, kept.astype(jnp.int32))


def _weights(start: jax.Array, factor: jax.Array, kept: jax.Array, size: jax.Array, side: int) -> jax.Array:
    """Weights `[n, side, side]` of the old places of a line in its new ones, zero beyond what is kept.

    Linear interpolation; of a line that shrinks, the mean over what a new place covers.
    """
    places = jnp.arange(side, dtype=jnp.float32)
    centres = (places + 0.5 + start[:, None]) / factor[:, None] - 0.5
    centres = jnp.clip(centres, 0.0, size[:, None] - 1.0)
    reach = jnp.maximum(1.0, 1.0 / factor)[:, None, None]
    weights = jnp.maximum(0.0, 1.0 - jnp.abs(centres[..., None] - places) / reach)
    weights = jnp.where(places < size[:, None, None], weights, 0.0)
    weights /= jnp.sum(weights, axis=-1, keepdims=True)
    return jnp.where((places < kept[:, None])[..., None], weights, 0.0)


def _left(boxes: jax.Array, visible: jax.Array) -> jax.Array:
    """Which share of each box is visible."""
    sides, left = boxes[..., 2:] - boxes[..., :2], jnp.maximum(visible[..., 2:] - visible[..., :2], 0.0)
    return jnp.prod(left, axis=-1) / jnp.maximum(jnp.prod(sides, axis=-1), 1e-6)


def _inside(photos: Photos) -> jax.Array:
    places = jnp.arange(photos.images.shape[1])
    heights, widths = photos.sizes[:, 0], photos.sizes[:, 1]
    rows, columns = places < heights[:, None], places < widths[:, None]
    return (rows[:, :, None] & columns[:, None, :])[..., None]
