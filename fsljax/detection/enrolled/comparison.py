"""Regions compared with enrolled classes, and with what is known to be none of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.detection.data.structures import Detections
from fsljax.detection.model.inference import Suppression, detections, times_weight
from fsljax.detection.model.roi_head import squared_distances
from fsljax.detection.model.search import Seen
from fsljax.losses.repmet import log_posteriors


class Comparison(NamedTuple):
    """What regions are compared with, padded to few distinct shapes, so that few programs are compiled.

    Attributes:
      representatives: `[classes, k, dim]`.
      is_representative: bool `[classes, k]`, False for padding, all of it of a class that is.
      negatives: `[classes, n, dim]`, regions that look like the class and are none.
      is_negative: bool `[classes, n]`.
      sigma, scale: of the scores.
    """

    representatives: jax.Array | np.ndarray
    is_representative: jax.Array | np.ndarray
    negatives: jax.Array | np.ndarray
    is_negative: jax.Array | np.ndarray
    sigma: float | jax.Array
    scale: float | jax.Array


def comparison_of(
    representatives: Sequence[np.ndarray], negatives: Sequence[np.ndarray], sigma: float, scale: float
) -> Comparison:
    """Of classes by their representatives `[k of the class, dim]` and negatives `[n of the class, dim]`."""
    classes = few_numbers(len(representatives))
    return Comparison(*padded(representatives, classes), *padded(negatives, classes), sigma, scale)


def padded(rows: Sequence[np.ndarray], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each class filled up with zeros: `[classes, k, dim]`, and which are real, `[classes, k]`."""
    most = max(map(len, rows))
    there = np.zeros((classes, few_numbers(most) if most else 0), bool)
    filled = np.zeros((*there.shape, rows[0].shape[1]), np.float32)
    for place, of_class in enumerate(rows):
        there[place, : len(of_class)] = True
        filled[place, : len(of_class)] = of_class
    return filled, there


def scores(features: jax.Array, comparison: Comparison) -> jax.Array:
    """Probabilities of background and of each class, by RepMet's rule and negatives.

    p_i = max_j exp(−‖E − R_ij‖²/2σ²) as ever. Background has 1 − max_i p_i or, if that is more, the like of
    the nearest negative of the likeliest class: a region nearer to it than to the class is background. The
    scores are the softmax of `scale` times these. Without negatives they are
    `fsljax.detection.model.roi_head.repmet_scores`.

    Args:
      features: `[..., dim]`.
      comparison: of the classes.

    Returns:
      `[..., 1 + classes]`, background first; 0 for classes that are padding.
    """
    posteriors = _posteriors(features, comparison.representatives, comparison.is_representative, comparison)
    background = 1 - jnp.max(posteriors, axis=-1, keepdims=True)
    if comparison.negatives.shape[1]:
        of_negatives = _posteriors(features, comparison.negatives, comparison.is_negative, comparison)
        likeliest = jnp.argmax(posteriors, axis=-1, keepdims=True)
        background = jnp.maximum(background, jnp.take_along_axis(of_negatives, likeliest, axis=-1))
    logits = comparison.scale * jnp.concatenate([background, posteriors], axis=-1)
    is_class = jnp.any(jnp.asarray(comparison.is_representative), axis=-1)
    return jax.nn.softmax(jnp.where(jnp.append(True, is_class), logits, -jnp.inf), axis=-1)


@partial(jax.jit, static_argnames="suppression")
def detected(seen: Seen, comparison: Comparison, suppression: Suppression) -> Detections:
    """What is in images, `[b, keep]`: the regions by their refined boxes."""
    is_class = jnp.any(jnp.asarray(comparison.is_representative), axis=-1)
    # What is padding is no candidate.
    weighted = times_weight(scores(seen.features, comparison), seen.weight)
    of_classes = jnp.where(jnp.append(True, is_class), weighted, -1.0)
    find = partial(detections, suppression=suppression)
    found: Detections = jax.vmap(find)(seen.refined, seen.valid, of_classes)
    return found


def _posteriors(
    features: jax.Array,
    representatives: jax.Array | np.ndarray,
    there: jax.Array | np.ndarray,
    comparison: Comparison,
) -> jax.Array:
    squares = squared_distances(features, jnp.asarray(representatives))
    nearest = jnp.min(jnp.where(jnp.asarray(there), squares, jnp.inf), axis=-1)
    return jnp.exp(log_posteriors(nearest, comparison.sigma))


def few_numbers(count: int) -> int:
    """The next power of two: places for so many, of which there are few distinct numbers."""
    return 1 << (count - 1).bit_length()
