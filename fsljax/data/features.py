"""Features of a frozen network, computed once and kept: training a head on them takes minutes."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from datetime import timedelta

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.data.batches import fill_rows
from fsljax.data.io.cache import cached_arrays
from fsljax.data.io.encoded_images import EncodedImages
from fsljax.errors import UserError

_VERSION = 1  # to be raised whenever equal fingerprints would give other features
_SECONDS_BETWEEN_LINES = 10.0

Augment = Callable[[jax.Array, jax.Array], jax.Array]


def frozen_features(
    embed: Callable[[jax.Array], jax.Array],
    images: np.ndarray | EncodedImages,
    *,
    fingerprint: str,
    views: int = 1,
    augment: Augment | None = None,
    seed: int = 0,
    batch: int = 32,
) -> np.ndarray:
    """Features of all images, from the cache or computed and kept there.

    Args:
      embed: compiled; float `[batch, height, width, channel]` in [0, 1] to `[batch, dim]`.
      images: uint8 `[n, height, width, channel]`; may be memory-mapped or encoded, a batch is read at a time.
      fingerprint: of all that features depend on besides what is given here: the images, the weights,
        padding and scaling, and `augment` with its amounts (see `fingerprint_of`).
      views: features of each image. One is that of the plain image, unless `augment` is given.
      augment: changes a batch of float images by a random key; must keep its shape.
      seed: of the random keys; each view of each batch has a key of its own.
      batch: images at a time; the last batch is filled up, so that one program is compiled.

    Returns:
      float32 `[n, views, dim]`.

    Raises:
      UserError: if there are no images, or more views than one without `augment`.
    """
    if not len(images):
        raise UserError("There are no images to compute features of: give some.")
    if views < 1 or (views > 1 and augment is None):
        raise UserError(f"views is {views}; it must be 1 or more, and more than 1 needs augmentation.")
    random = (views, seed, batch) if augment is not None else ()
    full = fingerprint_of(_VERSION, fingerprint, images.shape, random)
    changed = None if augment is None else jax.jit(augment)
    key = jax.random.key(seed)

    def features_of(part: np.ndarray, start: int) -> np.ndarray:
        pixels = jnp.asarray(part).astype(jnp.float32) / 255
        if changed is None:
            return np.asarray(embed(pixels), np.float32)[:, None]
        keys = [jax.random.fold_in(jax.random.fold_in(key, view), start) for view in range(views)]
        return np.stack([np.asarray(embed(changed(key, pixels)), np.float32) for key in keys], axis=1)

    arrays = cached_arrays("features", full, lambda: {"features": _compute(features_of, images, batch)})
    return arrays["features"]


def fingerprint_of(*parts: object) -> str:
    """SHA-256 of values as they are written."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _compute(
    features_of: Callable[[np.ndarray, int], np.ndarray], images: np.ndarray | EncodedImages, batch: int
) -> np.ndarray:
    """Features of all images, put batch by batch into one array, telling how far it is."""
    count = len(images)
    features: np.ndarray | None = None
    began = last_line = time.monotonic()
    first = 0
    for start in range(0, count, batch):
        part = fill_rows(np.asarray(images[start : start + batch]), batch)
        computed = features_of(part, start)
        if features is None:
            features = np.empty((count, *computed.shape[1:]), np.float32)
        features[start : start + batch] = computed[: count - start]
        done, now = min(start + batch, count), time.monotonic()
        if not start:  # what compiling took is no measure of the time left
            began, first = now, done
        if now - last_line >= _SECONDS_BETWEEN_LINES or done == count:
            last_line = now
            speed = (done - first) / (now - began) if now > began else 0.0
            left = timedelta(seconds=round((count - done) / speed)) if speed else "?"
            line = f"features of {done:,}/{count:,} images  {speed:.1f} images/s  {left} left"
            print(line, file=sys.stderr, flush=True)
    assert features is not None  # there are images
    return features
