"""New classes from one box or a few: their representatives, and how these go on learning.

RepMet: Karlinsky et al., 2019, https://arxiv.org/abs/1806.04728, sections 3.2 and 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fsljax.detection.model.roi_head import BACKGROUND, repmet_logits, squared_distances
from fsljax.detection.ops.boxes import iou
from fsljax.distances import normalize

SPACES = ("embedding", "features")


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
class EnrolOptions:
    """How new classes are enrolled, and how they learn further.

    Attributes:
      space: where new classes are compared: "embedding", or "features", what the embedding is made of.
      per_shot: representatives from each support image, the support box's own among them.
      overlap: IoU with the support box from which a region gives a representative.
      high, low: in fine-tuning, a region is of the class from this IoU on, and background below that,
      object: unless its objectness is this or more: the image may hold further objects that no box tells of.
      positive_fraction: weight of all regions of the class in the loss of an image.
      rate: learning rate, of Adam.
      layer: whether the embedding layer learns, too.
      sigma, scale: of the scores.
      alpha, embedding: margin of the embedding loss, and its weight.
      normalize: embeddings and representatives to length 1.
    """

    space: str = "embedding"
    per_shot: int = 2
    overlap: float = 0.7
    high: float = 0.5
    low: float = 0.3
    object: float = 0.1
    positive_fraction: float = 0.25
    rate: float = 5e-4
    layer: bool = False
    sigma: float = 0.5
    scale: float = 15.0
    alpha: float = 0.5
    embedding: float = 1.0
    normalize: bool = True


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


def enrol(embeddings: jax.Array, support: Support, options: EnrolOptions) -> jax.Array:
    """Representatives `[way, shots · per_shot, dim]` of the classes of a support.

    Args:
      embeddings: `[way, shots, p, dim]` of its regions.
      support: of the same regions.
      options: of enrolment.
    """

    def of_image(embeddings: jax.Array, boxes: jax.Array, valid: jax.Array) -> jax.Array:
        rows = representative_rows(boxes, valid, per_shot=options.per_shot, overlap=options.overlap)
        return embeddings[rows]

    found = jax.vmap(jax.vmap(of_image))(embeddings, support.boxes, support.valid)
    return found.reshape(len(found), -1, found.shape[-1])


def scores_by_representatives(
    support: Support,
    queries: jax.Array,
    layer: Layer | None,
    options: EnrolOptions,
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
      options: of enrolment.
      epochs: of fine-tuning; 0: there is none.

    Returns:
      `[..., 1 + way]`, background first.
    """

    def finished(x: jax.Array) -> jax.Array:
        return normalize(x) if options.normalize else x

    def embed(layer: Layer | None, features: jax.Array) -> jax.Array:
        return finished(features if layer is None else layer(features))

    layer = layer if options.space == "embedding" else None
    learned = options.layer and layer is not None
    embeddings = embed(layer, support.features)
    representatives = enrol(embeddings, support, options)

    def loss_of(held: tuple[jax.Array, Layer | None], seen: _Seen) -> jax.Array:
        representatives, layer = held
        own = embed(layer, seen.features) if learned else seen.features
        return _representative_loss(own, finished(representatives), seen, options)

    held = (representatives, layer if learned else None)
    if epochs:
        given = support if learned else support._replace(features=embeddings)
        held = _fine_tuned(held, loss_of, given, options, epochs)
    known = embed(held[1] if learned else layer, queries)
    nearest = jnp.min(squared_distances(known, finished(held[0])), axis=-1)
    return jax.nn.softmax(repmet_logits(nearest, options.sigma, options.scale), axis=-1)


def scores_by_linear(
    support: Support,
    queries: jax.Array,
    trained: Layer,
    options: EnrolOptions,
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
      options: of enrolment.

    Returns:
      `[..., 1 + way]`, background first.
    """
    chosen = enrol(support.features, support, options)
    means = normalize(jnp.mean(normalize(chosen), axis=1))
    base = trained.kernel[:, 1:]
    length = jnp.mean(jnp.linalg.norm(base, axis=0))
    kernel = jnp.concatenate([trained.kernel[:, :1], length * means.T], axis=1)
    bias = jnp.concatenate([trained.bias[:1], jnp.full(len(means), jnp.mean(trained.bias[1:]))])
    layer = Layer(kernel, bias)

    def loss_of(layer: Layer, seen: _Seen) -> jax.Array:
        losses = optax.softmax_cross_entropy_with_integer_labels(layer(seen.features), seen.labels)
        return jnp.sum(losses * seen.weights)

    if epochs:
        layer = _fine_tuned(layer, loss_of, support, options, epochs)
    return jax.nn.softmax(layer(queries), axis=-1)


class _Seen(NamedTuple):
    """Regions of a support image to learn from: features `[p, hidden]`, labels `[p]`, weights `[p]`."""

    features: jax.Array
    labels: jax.Array
    weights: jax.Array


def _seen(support: Support, options: EnrolOptions) -> _Seen:
    """All support images, `[way · shots, p, …]`, the classes by turns."""

    def of_image(of: Support, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        overlap = iou(of.boxes, of.boxes[:1])[:, 0]
        positive = of.valid & (overlap >= options.high)
        negative = of.valid & (overlap < options.low) & (of.objectness < options.object)
        weights = positive * (options.positive_fraction / jnp.maximum(jnp.sum(positive), 1))
        weights += negative * ((1 - options.positive_fraction) / jnp.maximum(jnp.sum(negative), 1))
        return jnp.where(positive, label, BACKGROUND), weights

    by_turns = jax.tree.map(
        lambda of: jnp.swapaxes(of, 0, 1).reshape(-1, *of.shape[2:]),
        support,
    )
    way, shots = support.valid.shape[:2]
    labels, weights = jax.vmap(of_image)(by_turns, 1 + jnp.arange(way * shots) % way)
    return _Seen(by_turns.features, labels, weights)


def _fine_tuned(
    start: Any,
    loss_of: Callable[[Any, _Seen], jax.Array],
    support: Support,
    options: EnrolOptions,
    epochs: int,
) -> Any:
    seen = _seen(support, options)
    optimizer = optax.adam(options.rate)

    def step(state: tuple[Any, Any], number: jax.Array) -> tuple[tuple[Any, Any], None]:
        held, memory = state
        gradients = jax.grad(loss_of)(held, jax.tree.map(lambda of: of[number], seen))
        updates, memory = optimizer.update(gradients, memory)
        return (optax.apply_updates(held, updates), memory), None

    order = jnp.tile(jnp.arange(len(seen.labels)), epochs)
    (held, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), order)
    return held


def _representative_loss(
    embeddings: jax.Array, representatives: jax.Array, seen: _Seen, options: EnrolOptions
) -> jax.Array:
    nearest = jnp.min(squared_distances(embeddings, representatives), axis=-1)
    logits = repmet_logits(nearest, options.sigma, options.scale)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, seen.labels)
    own = jax.nn.one_hot(seen.labels - 1, nearest.shape[-1], dtype=bool)
    near = jnp.sum(jnp.where(own, nearest, 0.0), axis=-1)
    margins = jax.nn.relu(near - jnp.min(jnp.where(own, jnp.inf, nearest), axis=-1) + options.alpha)
    positive = seen.weights * (seen.labels != BACKGROUND)
    share = jnp.maximum(options.positive_fraction, 1e-6)
    return jnp.sum(losses * seen.weights) + options.embedding * jnp.sum(margins * positive) / share
