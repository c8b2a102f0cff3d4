"""Prototypical networks (Snell, Swersky and Zemel, 2017, https://arxiv.org/abs/1703.05175)."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from fsljax.distances import cosine_distance, squared_euclidean

DISTANCES = {"squared_euclidean": squared_euclidean, "cosine": cosine_distance}


class PrototypicalOutput(NamedTuple):
    """Result of `prototypical_loss`.

    Attributes:
      loss: `[]`, mean cross-entropy over all queries, in nats.
      accuracy: `[]`, the fraction of queries whose own class has the highest logit.
      logits: `[way, queries, way]`: class of the query, query, class compared with.
    """

    loss: jax.Array
    accuracy: jax.Array
    logits: jax.Array


def prototypes(support: jax.Array) -> jax.Array:
    """Prototype of each class: the mean of its support embeddings (equation 1).

    Args:
      support: `[way, shot, dim]`.

    Returns:
      `[way, dim]`, float32 (float64 if the input is): bfloat16 can rarely represent a mean of its numbers.

    Raises:
      AssertionError: if `support` is not of rank 3, or has no shots.
    """
    chex.assert_rank(support, 3)
    chex.assert_axis_dimension_gt(support, axis=1, val=0)
    return jnp.mean(support, axis=1, dtype=jnp.promote_types(jnp.result_type(support), jnp.float32))


def prototypical_loss(
    support: jax.Array,
    query: jax.Array,
    *,
    distance: str = "squared_euclidean",
    temperature: float = 1.0,
) -> PrototypicalOutput:
    """Cross-entropy of queries under a softmax over negative distances to prototypes (equation 2).

    The logit of class c for a query x is −d(f(x), p_c) / temperature, with p_c the mean of the
    support embeddings of class c; the loss is the mean over queries of −log softmax at the true class.

    Args:
      support: embeddings `[way, shot, dim]`.
      query: embeddings `[way, queries, dim]`; row c holds queries of class c.
      distance: "squared_euclidean", as published, or "cosine" (1 − cos, in [0, 2]).
      temperature: divisor of the distances; above 0.

    Returns:
      A `PrototypicalOutput`.

    Raises:
      AssertionError: if the shapes don't agree, or there are no shots or no queries.
      ValueError: if `distance` is neither of these, or `temperature` is not above 0.
    """
    chex.assert_rank([support, query], 3)
    chex.assert_equal_shape_prefix([support, query], 1)
    chex.assert_equal_shape_suffix([support, query], 1)
    chex.assert_axis_dimension_gt(query, axis=1, val=0)
    if distance not in DISTANCES:
        raise ValueError(f"distance is {distance!r}; it can be {' or '.join(map(repr, DISTANCES))}.")
    if isinstance(temperature, int | float) and not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0.")
    way, queries, dim = query.shape
    distances = DISTANCES[distance](query.reshape(way * queries, dim), prototypes(support))
    distances = distances.reshape(way, queries, way)
    logits = -distances / temperature
    own_class = jnp.broadcast_to(jnp.arange(way)[:, None], (way, queries))
    # Compilers fuse the division with the softmax's own subtraction of the highest logit, and the rounding of
    # a very large logit then reaches exp. Taken off before the division, the highest is 0, whatever is fused.
    nearest = jax.lax.stop_gradient(jnp.min(distances, axis=-1, keepdims=True))
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(
        (nearest - distances) / temperature, own_class
    )
    return PrototypicalOutput(
        loss=jnp.mean(cross_entropy),
        accuracy=jnp.mean(jnp.argmax(logits, axis=-1) == own_class, dtype=jnp.float32),
        logits=logits,
    )
