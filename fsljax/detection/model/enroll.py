"""New classes from one box or a few: their representatives, and how these go on learning.

RepMet: Karlinsky et al., 2019, https://arxiv.org/abs/1806.04728, sections 3.2 and 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from fsljax.detection.config import Config, EnrollOptions
from fsljax.detection.model.roi_head import BACKGROUND, repmet_logits, squared_distances
from fsljax.detection.ops.boxes import iou
from fsljax.distances import normalize
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


class Layer(NamedTuple):
    """A linear layer: kernel `[hidden, dim]` and bias `[dim]`."""

    kernel: jax.Array
    bias: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.kernel + self.bias


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
            "This detector has boxes for each class that it was trained on, and none for new classes: take "
            "one with --config.head.kind=repmet, or --config.head.class_boxes=False."
        )
    options, loss = config.eval.enrol, config.loss
    return Enrollment(options, options.sigma or loss.sigma, loss.scale, config.head.normalize)


def representative_rows(boxes: jax.Array, valid: jax.Array, *, per_shot: int, overlap: float) -> jax.Array:
    """Which regions of a support image become representatives.

    The regions that overlap most with the support box, if by `overlap` or more; where there are fewer, the
    support box takes their places.

    Args:
      boxes: `[p, 4]`, the first of which is the support box.
      valid: bool `[p]`.
      per_shot: how many.
      overlap: least IoU with the support box.

    Returns:
      int32 `[per_shot]`, the first of which is 0.
    """
    near = jnp.where(valid, iou(boxes, boxes[:1])[:, 0], 0.0).at[0].set(2.0)  # a tie must not displace it
    best, rows = jax.lax.top_k(near, per_shot)
    return jnp.where(best >= overlap, rows, 0).astype(jnp.int32)


def enroll(embeddings: jax.Array, support: Support, options: EnrollOptions) -> jax.Array:
    """Representatives `[way, shots · per_shot, dim]` of the classes of a support.

    Args:
      embeddings: `[way, shots, p, dim]` of its regions.
      support: of the same regions.
      options: of enrolment.
    """

    def of_image(embeddings: jax.Array, boxes: jax.Array, valid: jax.Array) -> jax.Array:
        rows = representative_rows(boxes, valid, per_shot=options.per_shot, overlap=options.overlap)
        return embeddings[rows]

    chosen = jax.vmap(jax.vmap(of_image))(embeddings, support.boxes, support.valid)
    return chosen.reshape(len(chosen), -1, chosen.shape[-1])


def scores_by_representatives(
    support: Support,
    queries: jax.Array,
    layer: Layer | None,
    enrollment: Enrollment,
    *,
    epochs: int = 0,
) -> jax.Array:
    """Probabilities of background and of a support's classes alone.

    Fine-tuning takes a step for each support image, in turns of the classes, with the losses of training:
    cross-entropy of the scores, and the margin loss of the embeddings of the class's regions. The regions'
    features stay as they are.

    Args:
      support: of the classes.
      queries: features `[..., hidden]` of regions.
      layer: the embedding, for the space "embedding" alone; None: features are compared themselves.
      enrollment: of the classes.
      epochs: of fine-tuning; 0: there is none.

    Returns:
      `[..., 1 + way]`, background first.
    """

    options = enrollment.options

    def finished(x: jax.Array) -> jax.Array:
        return normalize(x) if enrollment.normalize else x

    def embed(layer: Layer | None, features: jax.Array) -> jax.Array:
        return finished(features if layer is None else layer(features))

    layer = layer if options.space == "embedding" else None
    layer_learns = options.layer and layer is not None
    embeddings = embed(layer, support.features)

    def loss_of(params: tuple[jax.Array, Layer | None], regions: _SupportRegions) -> jax.Array:
        representatives, layer = params
        embedded = embed(layer, regions.features) if layer_learns else regions.features
        return _representative_loss(embedded, finished(representatives), regions, enrollment)

    params = (enroll(embeddings, support, options), layer if layer_learns else None)
    if epochs:
        given = support if layer_learns else support._replace(features=embeddings)
        params = _fine_tuned(params, loss_of, given, options, epochs)
    query_embeddings = embed(params[1] if layer_learns else layer, queries)
    nearest = jnp.min(squared_distances(query_embeddings, finished(params[0])), axis=-1)
    return jax.nn.softmax(repmet_logits(nearest, enrollment.sigma, enrollment.scale), axis=-1)


def scores_by_linear(
    support: Support,
    queries: jax.Array,
    trained: Layer,
    enrollment: Enrollment,
    *,
    epochs: int = 0,
) -> jax.Array:
    """Probabilities of background and of a support's classes, by a linear layer.

    Background keeps the weights that were trained. A class begins with imprinted ones (Qi et al., 2018,
    https://arxiv.org/abs/1712.07136): the direction of the mean of its regions' features, with the mean
    length and the mean bias of the trained classes.

    Args:
      support, queries, epochs: as of `scores_by_representatives`; it is learned through cross-entropy.
      trained: the layer over background and the classes that were trained.
      enrollment: of the classes.

    Returns:
      `[..., 1 + way]`, background first.
    """
    options = enrollment.options
    chosen = enroll(support.features, support, options)
    means = normalize(jnp.mean(normalize(chosen), axis=1))
    base = trained.kernel[:, 1:]
    length = jnp.mean(jnp.linalg.norm(base, axis=0))
    kernel = jnp.concatenate([trained.kernel[:, :1], length * means.T], axis=1)
    bias = jnp.concatenate([trained.bias[:1], jnp.full(len(means), jnp.mean(trained.bias[1:]))])
    layer = Layer(kernel, bias)

    def loss_of(layer: Layer, regions: _SupportRegions) -> jax.Array:
        losses = optax.softmax_cross_entropy_with_integer_labels(layer(regions.features), regions.labels)
        return jnp.sum(losses * regions.weights)

    if epochs:
        layer = _fine_tuned(layer, loss_of, support, options, epochs)
    return jax.nn.softmax(layer(queries), axis=-1)


class _SupportRegions(NamedTuple):
    """Regions of a support image to learn from: features `[p, hidden]`, labels `[p]`, weights `[p]`."""

    features: jax.Array
    labels: jax.Array
    weights: jax.Array


def _regions_of(support: Support, options: EnrollOptions) -> _SupportRegions:
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
    return _SupportRegions(by_turns.features, labels, weights)


def _fine_tuned(
    start: Learned,
    loss_of: Callable[[Learned, _SupportRegions], jax.Array],
    support: Support,
    options: EnrollOptions,
    epochs: int,
) -> Learned:
    regions = _regions_of(support, options)
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


def _representative_loss(
    embeddings: jax.Array, representatives: jax.Array, regions: _SupportRegions, enrollment: Enrollment
) -> jax.Array:
    options = enrollment.options
    nearest = jnp.min(squared_distances(embeddings, representatives), axis=-1)
    logits = repmet_logits(nearest, enrollment.sigma, enrollment.scale)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, regions.labels)
    is_class = jax.nn.one_hot(regions.labels - 1, nearest.shape[-1], dtype=bool)
    near = jnp.sum(jnp.where(is_class, nearest, 0.0), axis=-1)
    margins = jax.nn.relu(near - jnp.min(jnp.where(is_class, jnp.inf, nearest), axis=-1) + options.alpha)
    positive = regions.weights * (regions.labels != BACKGROUND)
    share = jnp.maximum(options.positive_fraction, 1e-6)
    return jnp.sum(losses * regions.weights) + options.embedding * jnp.sum(margins * positive) / share
