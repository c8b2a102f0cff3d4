"""The RepMet loss where each device holds the representatives of some classes: for a million of them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fsljax.losses.repmet import distances_for, log_posteriors, root
from fsljax.parallel import shares


class DividedRepMetOutput(NamedTuple):
    """Result of `divided_repmet_loss`, the same on every device.

    Attributes:
      loss: `[]`, mean over the batch.
      example_losses: `[batch]`.
      right: bool `[batch]`, whether an example's own class has the greatest posterior.
    """

    loss: jax.Array
    example_losses: jax.Array
    right: jax.Array


def divided_repmet_loss(
    embeddings: jax.Array,
    labels: jax.Array,
    representatives: jax.Array,
    *,
    classes: int,
    sigma: float | jax.Array = 0.5,
    alpha: float = 1.0,
    version: str = "v1",
    squared: bool = False,
    exact: bool = True,
) -> DividedRepMetOutput:
    """`fsljax.losses.repmet_loss` within a divided step, of representatives divided over its devices.

    What devices tell each other is a few numbers for each example; no array of all classes is made. Its
    gradient with respect to `representatives` is that of the sum of the devices' losses, which are equal.

    Args:
      embeddings: `[batch, dim]`, of the whole batch.
      labels: int `[batch]`, 0 … classes − 1.
      representatives: `[own, k, dim]`, those of this device: of classes number · own and on, as far as there
        are `classes`.
      classes: of all devices.
      sigma, alpha, version, squared, exact: as in `repmet_loss`.
    """
    own, k, dim = representatives.shape
    numbers = shares.number() * own + jnp.arange(own)
    is_own = numbers == labels[:, None]
    is_other = (numbers < classes) & ~is_own
    flat = representatives.reshape(own * k, dim)
    exact = exact or version == "margin"
    squares = distances_for(embeddings, flat, sigma, exact=exact).reshape(-1, own, k)
    nearest = jnp.stack([_least(squares, of) for of in (is_own, is_other)])
    own_nearest, foreign_nearest = jnp.min(shares.gathered(nearest[None]), axis=0)
    near, far = jax.lax.stop_gradient((own_nearest, foreign_nearest))

    def relative(to: jax.Array) -> jax.Array:
        """p_ij against that of a squared distance `[batch]`, as `[batch, own, k]`."""
        return jnp.exp(log_posteriors(squares, sigma, relative_to=to[:, None, None]))

    def summed(of: jax.Array, to: jax.Array) -> jax.Array:
        """Sum `[batch]` of p_ij over classes, against that of a squared distance."""
        # What is not summed may be far above the reference: it must not be raised to a power.
        gaps = jnp.where(
            of[..., None], log_posteriors(squares, sigma, relative_to=to[:, None, None]), -jnp.inf
        )
        return jnp.sum(jnp.exp(gaps), axis=(1, 2))

    own_sum, other_sum = shares.total((summed(is_own, near), summed(is_other, far)))
    if version == "v1":
        ratios = log_posteriors(far, sigma, relative_to=own_nearest) + jnp.log(other_sum)
    elif version == "v2":
        gap = log_posteriors(far, sigma, relative_to=near)
        ratios = jax.nn.softplus(gap + jnp.log(other_sum) - jnp.log(own_sum))
    else:
        ratios = own_nearest - foreign_nearest if squared else root(own_nearest) - root(foreign_nearest)
    losses = jax.nn.relu(ratios + alpha)
    scores = jnp.where(is_own | is_other, jnp.sum(relative(jnp.minimum(near, far)), axis=2), -1.0)
    return DividedRepMetOutput(jnp.mean(losses), losses, _is_best(scores, is_own))


def _least(squares: jax.Array, of: jax.Array) -> jax.Array:
    """Least `[batch]` of squared distances `[batch, own, k]` to some classes; of none it is infinite."""
    return jnp.min(jnp.where(of[..., None], squares, jnp.inf), axis=(1, 2))


def _is_best(scores: jax.Array, is_own: jax.Array) -> jax.Array:
    """Whether the best score `[batch, own]` of all devices is that of the own class, bool `[batch]`."""
    best = jnp.argmax(scores, axis=1)[:, None]
    of_best = [jnp.take_along_axis(values, best, axis=1)[:, 0] for values in (scores, is_own)]
    values, flags = shares.gathered(jax.tree.map(lambda row: row[None], tuple(of_best)))
    right: jax.Array = jnp.take_along_axis(flags, jnp.argmax(values, axis=0)[None], axis=0)[0]
    return right
