"""Which photographs a training step takes."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np


def repeat_factors(labels: Sequence[np.ndarray], num_classes: int, threshold: float) -> np.ndarray:
    """How often each image is taken, against one of frequent classes alone, float32 `[n]`.

    A class in a share f of the images has the factor max(1, √(threshold / f)), an image the largest of its
    classes' (Gupta et al., 2019, https://arxiv.org/abs/1908.03195, section 5, "repeat factor sampling").

    Args:
      labels: int `[objects of the image]` of each image, classes from 0.
      num_classes: how many there are.
      threshold: share of images below which a class is rare.
    """
    present = np.zeros((len(labels), num_classes), bool)
    for row, of_image in zip(present, labels, strict=True):
        row[of_image] = True
    shares = present.mean(axis=0)
    factors = np.maximum(1.0, np.sqrt(threshold / np.maximum(shares, 1 / len(labels))))
    return np.where(present, factors, 1.0).max(axis=1, initial=1.0).astype(np.float32)


def weighted_rows(key: jax.Array, factors: np.ndarray | jax.Array, batch: int) -> jax.Array:
    """The images of a step, int32 `[batch]`, each as often as its factor says.

    The batch is spread evenly over the whole set (systematic sampling), in an order drawn at random for each
    step, so that images that follow one another are not drawn together more than others.

    Args:
      key: of the step.
      factors: `[n]`, above 0.
      batch: images.
    """
    order_key, start_key = jax.random.split(key)
    order = jax.random.permutation(order_key, len(factors))
    ends = jnp.cumsum(jnp.asarray(factors)[order])
    places = (jnp.arange(batch) + jax.random.uniform(start_key)) * (ends[-1] / batch)
    return order[jnp.minimum(jnp.searchsorted(ends, places, side="right"), len(factors) - 1)]
