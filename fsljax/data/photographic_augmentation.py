"""Random changes that suit photographs: a part of the image brought to full size, and other colours."""

from __future__ import annotations

import dm_pix
import jax
import jax.numpy as jnp

from fsljax.parallel.shares import Among, drawn

LARGEST_ASPECT = 4 / 3  # of a cropped part; the smallest is its inverse


def random_resized_crop(
    key: jax.Array, images: jax.Array, smallest: float, among: Among | None = None
) -> jax.Array:
    """Brings a random part of each image to the size of the whole, by bilinear interpolation.

    The part's share of the area is uniform from `smallest` to 1, its aspect log-uniform from ¾ to 4/3
    as far as such a part lies within the image (a whole image has its own aspect), its place uniform.
    Szegedy et al. (2015), https://arxiv.org/abs/1409.4842, section 6, with their 0.08 as `smallest`.

    Args:
      key: a JAX random key.
      images: float `[n, height, width, channel]`.
      smallest: share of the area, above 0 and at most 1.
      among: which images of a batch these are; None: all of them.

    Returns:
      Images of the same shape. No value lies outside of the range of its image.
    """
    count, height, width, _ = images.shape
    area_key, aspect_key, row_key, column_key = jax.random.split(key, 4)
    area = drawn(
        lambda count: jax.random.uniform(area_key, (count,), minval=smallest, maxval=1.0), count, among
    )
    limit = jnp.minimum(jnp.log(LARGEST_ASPECT), -jnp.log(area))
    aspects = drawn(lambda count: jax.random.uniform(aspect_key, (count,), minval=-1.0), count, among)
    root_of_aspect = jnp.exp(limit / 2 * aspects)
    rows = _weights(row_key, jnp.sqrt(area) / root_of_aspect, height, among)
    columns = _weights(column_key, jnp.sqrt(area) * root_of_aspect, width, among)
    # Two small matrix products an image: gathering its pixels would take longer on a CPU.
    resized = jnp.einsum("nip,npqc->niqc", rows, images, precision="highest")
    resized = jnp.einsum("njq,niqc->nijc", columns, resized, precision="highest")
    return resized.astype(images.dtype)


def _weights(key: jax.Array, share: jax.Array, size: int, among: Among | None) -> jax.Array:
    """Weights `[n, size, size]` that bring random parts of a side, `share [n]` of it, to full length."""
    starts = drawn(lambda count: jax.random.uniform(key, (count,)), len(share), among)
    start = starts * (1 - share) * size
    centres = start[:, None] + (jnp.arange(size) + 0.5) * share[:, None] - 0.5
    centres = jnp.clip(centres, 0, size - 1)
    return jnp.maximum(0.0, 1 - jnp.abs(centres[..., None] - jnp.arange(size)))


def change_colours(
    key: jax.Array, images: jax.Array, *, saturation: float, hue: float, among: Among | None = None
) -> jax.Array:
    """Changes the colours of each image by amounts of its own, in HSV.

    Args:
      key: a JAX random key.
      images: float `[n, height, width, 3]`, in [0, 1].
      saturation: share by which saturation is multiplied up or down at most.
      hue: share of a full turn by which the hue is turned either way at most.
      among: which images of a batch these are; None: all of them.

    Returns:
      Images of the same shape, in [0, 1].

    Raises:
      ValueError: the images have other than three channels.
    """
    if images.shape[-1] != 3:
        raise ValueError(f"Colours are changed in images of 3 channels, not {images.shape[-1]}.")
    stronger, turned = drawn(
        lambda count: jax.random.uniform(key, (2, count, 1, 1), images.dtype, minval=-1.0),
        len(images), among, axis=1,
    )  # fmt: skip
    planes = dm_pix.rgb_to_hsv(images)
    strength = jnp.clip(planes[..., 1] * (1 + saturation * stronger), 0.0, 1.0)
    changed = jnp.stack([planes[..., 0] + hue * turned, strength, planes[..., 2]], axis=-1)
    return dm_pix.hsv_to_rgb(changed)
