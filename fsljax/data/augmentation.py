"""Random augmentation of images, computed on the device."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from fsljax.config.sections import Augmentation
from fsljax.data.photographic_augmentation import change_colours, random_resized_crop
from fsljax.parallel.shares import Among, drawn

__all__ = ["Augmentation", "augment", "augment_at_step", "augment_classes_at_step", "moved_by"]


def augment_at_step(
    step: jax.Array | int,
    key: jax.Array,
    images: jax.Array,
    amounts: Augmentation,
    among: Among | None = None,
) -> jax.Array:
    """`augment` for training steps before `amounts.stop_at`; afterwards, images are unchanged."""
    if not amounts.stop_at:
        return augment(key, images, amounts, among=among)
    change = partial(augment, key, amounts=amounts, among=among)
    return jax.lax.cond(step < amounts.stop_at, change, lambda same: same, images)


def moved_by(amounts: Augmentation, share: float) -> Augmentation:
    """A fraction of the geometric augmentation, without any other change."""
    names = ("rotation", "scale", "stretch", "shear", "shift", "elastic")
    moves = {name: share * getattr(amounts, name) for name in names}
    return Augmentation(**moves, elastic_points=amounts.elastic_points)


def augment_classes_at_step(
    step: jax.Array | int,
    key: jax.Array,
    images: jax.Array,
    amounts: Augmentation,
    of_class: Augmentation,
    class_size: int,
    among: Among | None = None,
) -> jax.Array:
    """`augment_at_step` after a geometric augmentation that all images of a class share.

    A class augmented in this way is a new class. Images are interpolated once.

    Args:
      step: training step.
      key: a JAX random key.
      images: float `[n, height, width, channel]`, grouped into runs of `class_size` images of one class.
      amounts: augmentation of each image, before `amounts.stop_at`.
      of_class: geometric augmentation of each class, before `of_class.stop_at`.
      class_size: images per class.
      among: positions of these images within the batch; None: they are the whole batch.
    """
    _, height, width, _ = images.shape
    class_key = jax.random.fold_in(key, 5)
    if among is None:
        moved = _coordinates(class_key, (len(images) // class_size, height, width, 1), of_class)
    else:
        of_classes = Among(among.places // class_size, among.whole // class_size)
        moved = _coordinates(class_key, images.shape, of_class, of_classes)
    if of_class.stop_at:
        moved = jnp.where(step < of_class.stop_at, moved, _in_place(height, width))
    if among is None:
        moved = jnp.repeat(moved, class_size, axis=1)
    change = partial(augment, key, amounts=amounts, first=moved, among=among)
    if not amounts.stop_at:
        return change(images)
    return jax.lax.cond(step < amounts.stop_at, change, lambda same: _resample(same, moved), images)


def augment(
    key: jax.Array,
    images: jax.Array,
    amounts: Augmentation,
    *,
    first: jax.Array | None = None,
    among: Among | None = None,
) -> jax.Array:
    """Augments each image independently.

    Args:
      key: a JAX random key.
      images: float `[n, height, width, channel]`, in [0, 1].
      amounts: the augmentation.
      first: positions that pixel values are taken from before that, `[2, n, height, width]` in pixels; None:
        their own positions.
      among: positions of these images within the batch, so that each is augmented as it would be there; None:
        they are the whole batch.

    Returns:
      images of the same shape; values beyond the border repeat the border.

    Raises:
      ValueError: if saturation or hue is requested for images without three channels.
    """
    move_key, flip_key, light_key = jax.random.split(key, 3)
    # Numbers that give other keys than the three above, which must stay what they were.
    crop_key, colour_key = jax.random.fold_in(key, 3), jax.random.fold_in(key, 4)
    if amounts.crop_scale < 1:
        images = random_resized_crop(crop_key, images, amounts.crop_scale, among)
    if amounts.moves():
        coordinates = _coordinates(move_key, images.shape, amounts, among)
        if first is not None:
            coordinates = jnp.moveaxis(_resample(jnp.moveaxis(first, 0, -1), coordinates), -1, 0)
        images = _resample(images, coordinates)
    elif first is not None:
        images = _resample(images, first)
    if amounts.flip:
        flip = partial(jax.random.bernoulli, flip_key)
        mirrored = drawn(lambda count: flip(shape=(count, 1, 1, 1)), len(images), among)
        images = jnp.where(mirrored, images[:, :, ::-1], images)
    if amounts.brightness or amounts.contrast:
        bright, strong = drawn(
            lambda count: jax.random.uniform(light_key, (2, count, 1, 1, 1), minval=-1.0),
            len(images), among, axis=1,
        )  # fmt: skip
        mean = jnp.mean(images, axis=(1, 2, 3), keepdims=True)
        images = mean + (images - mean) * (1 + amounts.contrast * strong) + amounts.brightness * bright
        images = jnp.clip(images, 0.0, 1.0)
    if amounts.saturation or amounts.hue:
        turns = {"saturation": amounts.saturation, "hue": amounts.hue}
        images = change_colours(colour_key, images, **turns, among=among)
    return images


def _coordinates(
    key: jax.Array, shape: tuple[int, ...], amounts: Augmentation, among: Among | None = None
) -> jax.Array:
    """Where each pixel's value comes from: rows and columns, `[2, n, height, width]`, in pixels."""
    count, height, width, _ = shape
    affine_key, elastic_key = jax.random.split(key)
    angle, scale, stretch, shear, up, left = drawn(
        lambda count: jax.random.uniform(affine_key, (6, count, 1, 1), minval=-1.0), count, among, axis=1
    )
    angle = jnp.deg2rad(amounts.rotation) * angle
    row_scale = 1 + amounts.scale * scale
    column_scale = row_scale * (1 + amounts.stretch * stretch)
    centre_row, centre_column = (height - 1) / 2, (width - 1) / 2
    rows = (jnp.arange(height) - centre_row)[:, None]
    columns = (jnp.arange(width) - centre_column)[None, :]
    slanted = columns + amounts.shear * shear * rows
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    from_rows = row_scale * (cosine * rows - sine * slanted) + centre_row + amounts.shift * up
    from_columns = column_scale * (sine * rows + cosine * slanted) + centre_column + amounts.shift * left
    moved = jnp.stack([from_rows, from_columns])
    if amounts.elastic:
        points = amounts.elastic_points
        coarse = drawn(
            lambda count: jax.random.uniform(elastic_key, (2, count, points, points), minval=-1.0),
            count, among, axis=1,
        )  # fmt: skip
        field = jax.image.resize(coarse, (2, count, height, width), "cubic")
        moved = moved + amounts.elastic * field
    return moved


def _in_place(height: int, width: int) -> jax.Array:
    """Coordinates that move nothing, `[2, 1, height, width]`."""
    return jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"))[:, None].astype(
        float
    )


def _resample(images: jax.Array, coordinates: jax.Array) -> jax.Array:
    """Bilinear interpolation of each image at its own coordinates."""
    _, height, width, _ = images.shape
    row, column = coordinates
    row, column = jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)
    top = jnp.floor(row).astype(jnp.int32)
    left = jnp.floor(column).astype(jnp.int32)
    down, right = (row - top)[..., None], (column - left)[..., None]
    bottom, other = jnp.minimum(top + 1, height - 1), jnp.minimum(left + 1, width - 1)
    take = jax.vmap(lambda image, r, c: image[r, c])
    upper = take(images, top, left) * (1 - right) + take(images, top, other) * right
    lower = take(images, bottom, left) * (1 - right) + take(images, bottom, other) * right
    return upper * (1 - down) + lower * down
