"""Triplet loss with in-batch mining (Schroff, Kalenichenko and Philbin, 2015; Hermans et al., 2017)."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from fsljax.distances import squared_euclidean

MINING = ("semi_hard", "hard", "all")


class TripletOutput(NamedTuple):
    """Result of `triplet_loss`.

    Attributes:
      loss: `[]`, mean over the triplets; 0 if there are none.
      active: `[]`, the fraction of triplets whose loss is above 0.
    """

    loss: jax.Array
    active: jax.Array


def triplet_loss(
    embeddings: jax.Array, labels: jax.Array, *, margin: float = 0.2, mining: str = "semi_hard"
) -> TripletOutput:
    """Triplet loss, [D(a, p) − D(a, n) + margin]₊, over triplets found in the batch.

    D is the squared Euclidean distance; an anchor a and a positive p are two examples of the same class, the
    negative n belongs to another. Which triplets count:

    - "semi_hard": every (a, p), with the nearest negative that is farther than p, or, if there is
      none, the farthest negative (https://arxiv.org/abs/1503.03832, section 3.2).
    - "hard": every a, with its farthest positive and nearest negative
      (https://arxiv.org/abs/1703.07737, equation 5).
    - "all": every triplet, averaged over those whose loss is above 0 (there, equation 6).

    Args:
      embeddings: `[batch, dim]`.
      labels: int `[batch]`.
      margin: above 0, in units of the squared distance.
      mining: "semi_hard", "hard" or "all".

    Returns:
      A `TripletOutput`, float32 (float64 if the embeddings are).

    Raises:
      AssertionError: if shapes don't agree, or labels are not integers.
      ValueError: if `mining` is none of these.
    """
    chex.assert_rank([embeddings, labels], [2, 1])
    chex.assert_equal_shape_prefix([embeddings, labels], 1)
    chex.assert_type(labels, int)
    if mining not in MINING:
        raise ValueError(f"mining is {mining!r}; it can be {', '.join(map(repr, MINING))}.")
    distances = squared_euclidean(embeddings, embeddings)
    same = labels[:, None] == labels[None, :]
    positive = same & ~jnp.eye(len(labels), dtype=bool)
    negative = ~same
    has_negative = jnp.any(negative, axis=1)
    if mining == "hard":
        farthest = jnp.max(jnp.where(positive, distances, -jnp.inf), axis=1)
        nearest = jnp.min(jnp.where(negative, distances, jnp.inf), axis=1)
        valid = jnp.any(positive, axis=1) & has_negative
        return _mean(farthest - nearest + margin, valid)
    if mining == "all":
        losses = distances[:, :, None] - distances[:, None, :] + margin
        valid = positive[:, :, None] & negative[:, None, :]
        output = _mean(losses, valid & (losses > 0))
        return output._replace(active=_share(losses > 0, valid))
    farther = negative[:, None, :] & (distances[:, None, :] > distances[:, :, None])
    nearest = jnp.min(jnp.where(farther, distances[:, None, :], jnp.inf), axis=-1)
    farthest = jnp.max(jnp.where(negative, distances, -jnp.inf), axis=1, keepdims=True)
    chosen = jnp.where(jnp.any(farther, axis=-1), nearest, farthest)
    return _mean(distances - chosen + margin, positive & has_negative[:, None])


def _mean(losses: jax.Array, valid: jax.Array) -> TripletOutput:
    losses = jax.nn.relu(jnp.where(valid, losses, 0.0))
    loss = jnp.sum(losses) / jnp.maximum(jnp.sum(valid), 1)
    return TripletOutput(loss=loss, active=_share(losses > 0, valid))


def _share(chosen: jax.Array, among: jax.Array) -> jax.Array:
    return jnp.sum(chosen & among) / jnp.maximum(jnp.sum(among), 1)
