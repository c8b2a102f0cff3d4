"""How new classes are compared with regions, and go on learning from the regions of their supports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fsljax.detection.config import Config, EnrollOptions
from fsljax.detection.model.roi_head import BACKGROUND, repmet_logits, squared_distances
from fsljax.detection.ops.boxes import iou
from fsljax.errors import UserError

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


@dataclass(frozen=True)
class Enrollment:
    """How a detector's new classes are enrolled and compared.

    Attributes:
      options: the config's section.
      sigma, scale: of the scores.
      normalize: embeddings and representatives to length 1.
    """

    options: EnrollOptions
    sigma: float
    scale: float
    normalize: bool


def enrollment_of(config: Config) -> Enrollment:
    """As the detector was trained, and as `config.eval.enrol` says.

    Raises:
      UserError: if its boxes are of trained classes alone.
    """
    if config.head.has_class_boxes():
        raise UserError(
            "This detector regresses boxes per trained class, so it cannot predict boxes for new classes: "
            "use one trained with --config.head.kind=repmet or --config.head.class_boxes=False."
        )
    options, loss = config.eval.enrol, config.loss
    return Enrollment(options, options.sigma or loss.sigma, loss.scale, config.head.normalize)


class Known(NamedTuple):
    """Trained classes that compete with those of a support; fine-tuning leaves them as they are.

    Attributes:
      representatives: `[classes, k, dim]`.
      sigma: of their scores.
      there: bool `[classes]`, False for one of which nothing is known, and which never wins; None: all are.
    """

    representatives: jax.Array
    sigma: float | jax.Array
    there: jax.Array | None = None


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
    regions: SupportRegions,
    options: EnrollOptions,
    epochs: int,
) -> Learned:
    """What is learned by a step for each support image, epoch after epoch.

    Args:
      start: before the first step.
      loss_of: of what is learned, and the regions of one image.
      regions: of all images, `[n, p, …]`, in the order of the steps.
      options: of enrolment.
      epochs: as many.
    """
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


def compared(
    embeddings: jax.Array,
    representatives: jax.Array,
    enrollment: Enrollment,
    known: Known | None,
    there: jax.Array | np.ndarray | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Squared distance to the nearest representative of each class `[..., classes]`, and logits."""
    squares = squared_distances(embeddings, representatives)
    nearest = jnp.min(squares if there is None else jnp.where(there, squares, jnp.inf), axis=-1)
    sigma: float | jax.Array = enrollment.sigma
    if known is not None:
        others = jnp.min(squared_distances(embeddings, known.representatives), axis=-1)
        if known.there is not None:
            others = jnp.where(known.there, others, jnp.inf)
        sizes = nearest.shape[-1], others.shape[-1]
        sigma = jnp.concatenate([jnp.full(n, s) for n, s in zip(sizes, (sigma, known.sigma), strict=True)])
        nearest = jnp.concatenate([nearest, others], axis=-1)
    return nearest, repmet_logits(nearest, sigma, enrollment.scale)


def representative_loss(
    embeddings: jax.Array,
    representatives: jax.Array,
    regions: SupportRegions,
    enrollment: Enrollment,
    there: jax.Array | np.ndarray | None = None,
    known: Known | None = None,
) -> jax.Array:
    """The loss of an image's regions, in fine-tuning.

    Args:
      embeddings: `[p, dim]` of the regions.
      representatives: `[way, k, dim]`.
      regions: the rest of them.
      enrollment: of the classes.
      there: bool `[way, k]`, False for padding; None: there is none.
      known: classes that compete, too; None: there are none.
    """
    options = enrollment.options
    nearest, logits = compared(embeddings, representatives, enrollment, known, there)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, regions.labels)
    is_class = jax.nn.one_hot(regions.labels - 1, nearest.shape[-1], dtype=bool)
    near = jnp.sum(jnp.where(is_class, nearest, 0.0), axis=-1)
    margins = jax.nn.relu(near - jnp.min(jnp.where(is_class, jnp.inf, nearest), axis=-1) + options.alpha)
    positive = regions.weights * (regions.labels != BACKGROUND)
    share = jnp.maximum(options.positive_fraction, 1e-6)
    return jnp.sum(losses * regions.weights) + options.embedding * jnp.sum(margins * positive) / share
