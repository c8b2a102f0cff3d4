"""How the representatives or weights of new classes go on learning from the regions of their supports."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from fsljax.detection.config import EnrollOptions
from fsljax.detection.model.roi_head import BACKGROUND
from fsljax.detection.ops.boxes import iou

Learned = TypeVar("Learned")  # what fine-tuning changes, a tree of arrays


class Support(NamedTuple):
    """The regions of images in each of which one box is given; the first region of each is that box.

    Attributes:
      features: `[way, shots, p, hidden]`.
      boxes: `[way, shots, p, 4]`, where the features were pooled.
      valid: bool `[way, shots, p]`.
      objectness: `[way, shots, p]`, probabilities of the proposals.
    """

    features: jax.Array
    boxes: jax.Array
    valid: jax.Array
    objectness: jax.Array


class SupportRegions(NamedTuple):
    """Regions of a support image to learn from: features `[p, hidden]`, labels `[p]`, weights `[p]`."""

    features: jax.Array
    labels: jax.Array
    weights: jax.Array


def regions_of(support: Support, options: EnrollOptions) -> SupportRegions:
    """All support images, `[way · shots, p, …]`, the classes by turns."""

    def of_image(image: Support, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        overlap = iou(image.boxes, image.boxes[:1])[:, 0]
        positive = image.valid & (overlap >= options.high)
        negative = image.valid & (overlap < options.low) & (image.objectness < options.object)
        weights = positive * (options.positive_fraction / jnp.maximum(jnp.sum(positive), 1))
        weights += negative * ((1 - options.positive_fraction) / jnp.maximum(jnp.sum(negative), 1))
        return jnp.where(positive, label, BACKGROUND), weights

    by_turns = jax.tree.map(
        lambda part: jnp.swapaxes(part, 0, 1).reshape(-1, *part.shape[2:]),
        support,
    )
    way, shots = support.valid.shape[:2]
    labels, weights = jax.vmap(of_image)(by_turns, 1 + jnp.arange(way * shots) % way)
    return SupportRegions(by_turns.features, labels, weights)


def fine_tuned(
    start: Learned,
    loss_of: Callable[[Learned, SupportRegions], jax.Array],
    support: Support,
    options: EnrollOptions,
    epochs: int,
) -> Learned:
    """What is learned by a step for each support image and epoch, the classes by turns.

    Args:
      start: what is changed.
      loss_of: of it and the regions of one image.
      support: whose regions are learned from.
      options: of enrolment.
      epochs: one or more.
    """
    regions = regions_of(support, options)
    optimizer = optax.adam(options.rate)

    def step(
        state: tuple[Learned, optax.OptState], number: jax.Array
    ) -> tuple[tuple[Learned, optax.OptState], None]:
        params, memory = state
        gradients = jax.grad(loss_of)(params, jax.tree.map(lambda column: column[number], regions))
        updates, memory = optimizer.update(gradients, memory)
        return (optax.apply_updates(params, updates), memory), None

    order = jnp.tile(jnp.arange(len(regions.labels)), epochs)
    (params, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), order)
    return params
