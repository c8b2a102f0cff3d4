"""Features of a frozen network, computed once and cached: training a head on them takes minutes."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.data.batches import own_batches, read_filled
from fsljax.data.io.cache import cached_arrays
from fsljax.data.io.encoded_images import EncodedImages
from fsljax.errors import UserError
from fsljax.parallel import agreement
from fsljax.parallel.devices import ONE, Devices

_VERSION = 1  # to be raised whenever equal fingerprints would give other features
_SECONDS_BETWEEN_LINES = 10.0

Augment = Callable[[jax.Array, jax.Array], jax.Array]


def frozen_features(
    embed: Callable[..., jax.Array],
    images: np.ndarray | EncodedImages,
    *,
    fingerprint: str,
    views: int = 1,
    augment: Augment | None = None,
    seed: int = 0,
    batch: int = 32,
    variables: Any = None,
    devices: Devices = ONE,
) -> np.ndarray:
    """Features of all images, read from the cache, or computed and cached.

    Args:
      embed: compiled; float `[batch, height, width, channel]` in [0, 1] to `[batch, dim]`.
      images: uint8 `[n, height, width, channel]`; may be memory-mapped or encoded, since batches are read one
        at a time.
      fingerprint: identifies everything that features depend on besides these arguments: the images, the
        weights, padding and scaling, and `augment` with its amounts (see `fingerprint_of`).
      views: number of features per image; 1 is the original image, unless `augment` is given.
      augment: augments a batch of float images with a random key; must preserve its shape.
      seed: seed of the random keys; each view of each batch has its own key.
      batch: batch size per device; the last batch is padded, so that only one program is compiled.
      variables: variables of the network, passed to `embed` before the images; None: `embed` has them.
      devices: devices to distribute batches over, if `variables` are given.

    Returns:
      float32 `[n, views, dim]`.

    Raises:
      UserError: if there are no images, or more than one view without `augment`.
    """
    if not len(images):
        raise UserError("There are no images to compute features of: give at least one.")
    if views < 1 or (views > 1 and augment is None):
        raise UserError(f"views is {views}; it must be 1 or more, and more than 1 requires augmentation.")
    random = (views, seed, batch) if augment is not None else ()
    full = fingerprint_of(_VERSION, fingerprint, images.shape, random)
    keys = [jax.random.fold_in(jax.random.key(seed), view) for view in range(views)]
    if len(devices) > 1:
        features_of = _by_devices(embed, augment, keys, variables, devices)
    else:
        embed = embed if variables is None else partial(embed, variables)
        features_of = _by_one(embed, augment, keys)

    def agreed(found: bool) -> bool:
        return found if len(devices) == 1 else not agreement.any_of(not found)

    def make() -> dict[str, np.ndarray]:
        return {"features": _compute(features_of, images, batch, devices)}

    return cached_arrays("features", full, make, agreed=agreed)["features"]


def fingerprint_of(*parts: object) -> str:
    """SHA-256 of the printed values."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


_FeaturesOf = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Of images, and of the places among all where the batches of them begin: `[batch, views, dim]`."""


def _by_one(embed: Callable[..., jax.Array], augment: Augment | None, keys: list[jax.Array]) -> _FeaturesOf:
    changed = None if augment is None else jax.jit(augment)

    def features_of(part: np.ndarray, starts: np.ndarray) -> np.ndarray:
        pixels = jnp.asarray(part).astype(jnp.float32) / 255
        if changed is None:
            return np.asarray(embed(pixels), np.float32)[:, None]
        of_batch = [jax.random.fold_in(key, int(starts[0])) for key in keys]
        return np.stack([np.asarray(embed(changed(key, pixels)), np.float32) for key in of_batch], axis=1)

    return features_of


def _by_devices(
    embed: Callable[..., jax.Array],
    augment: Augment | None,
    keys: list[jax.Array],
    variables: Any,
    devices: Devices,
) -> _FeaturesOf:
    """The same by several devices, each of which takes a whole batch."""

    def of_view(given: Any, rows: tuple[jax.Array, jax.Array]) -> jax.Array:
        (variables, key), (images, start) = given, rows
        pixels = images.astype(jnp.float32) / 255
        if augment is not None:
            pixels = jax.lax.optimization_barrier(augment(jax.random.fold_in(key, start[0]), pixels))
        return embed(variables, pixels).astype(jnp.float32)

    compiled, variables = devices.over_rows(of_view), devices.replicate(variables)
    whole = [devices.replicate((variables, key)) for key in keys]

    def features_of(part: np.ndarray, starts: np.ndarray) -> np.ndarray:
        rows = devices.put_rows(part), devices.put_rows(starts)
        return np.stack([np.asarray(compiled(given, rows)) for given in whole], axis=1)

    return features_of


def _compute(
    features_of: _FeaturesOf, images: np.ndarray | EncodedImages, batch: int, devices: Devices
) -> np.ndarray:
    """Features of all images, put batch by batch into one array, telling how far it is."""
    count = len(images)
    features: np.ndarray | None = None
    began = last_line = time.monotonic()
    first = 0
    at_once = batch * len(devices)
    for start, rows in zip(range(0, count, at_once), own_batches(count, batch, devices), strict=True):
        computed = features_of(read_filled(images, rows), rows[::batch].astype(np.int32))
        if features is None:
            features = np.empty((count, *computed.shape[1:]), np.float32)
        features[start : start + at_once] = computed[: count - start]
        done, now = min(start + at_once, count), time.monotonic()
        if not start:  # what compiling took is no measure of the time left
            began, first = now, done
        due = now - last_line >= _SECONDS_BETWEEN_LINES or done == count
        if due and agreement.is_first():
            last_line = now
            speed = (done - first) / (now - began) if now > began else 0.0
            left = timedelta(seconds=round((count - done) / speed)) if speed else "?"
            line = f"features of {done:,}/{count:,} images  {speed:.1f} images/s  {left} left"
            print(line, file=sys.stderr, flush=True)
    assert features is not None  # there are images
    return features
