"""New classes from one or a few boxes: their representatives, and how these are fine-tuned.

RepMet: Karlinsky et al., 2019, https://arxiv.org/abs/1806.04728, sections 3.2 and 4.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fsljax.clustering import kmeans
from fsljax.detection.config import EnrollOptions
from fsljax.detection.model.fine_tuning import (
    Enrollment,
    Known,
    Support,
    SupportRegions,
    compared,
    enrollment_of,
    fine_tuned,
    regions_of,
    representative_loss,
)
from fsljax.detection.ops.boxes import iou
from fsljax.distances import normalize

__all__ = [
    "Enrolled", "Enrollment", "Known", "Layer", "Support", "SupportRegions", "enroll", "enrolled",
    "enrollment_of", "fine_tuned", "imprinted", "representative_loss", "representative_rows",
    "scores_by_enrolled", "scores_by_linear", "scores_by_representatives",
]  # fmt: skip

_NEVER = -1e9  # the bias of a class that no region is


class Layer(NamedTuple):
    """A linear layer: kernel `[hidden, dim]` and bias `[dim]`."""

    kernel: jax.Array
    bias: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.kernel + self.bias


def representative_rows(boxes: jax.Array, valid: jax.Array, *, per_shot: int, overlap: float) -> jax.Array:
    """Chooses the regions of a support image that become representatives.

    These are the regions with the largest IoU with the support box, if at least `overlap`; if there are too
    few, the support box takes their place.

    Args:
      boxes: `[p, 4]`, the first one is the support box.
      valid: bool `[p]`.
      per_shot: number of regions.
      overlap: minimum IoU with the support box.

    Returns:
      int32 `[per_shot]`, the first one is 0.
    """
    near = jnp.where(valid, iou(boxes, boxes[:1])[:, 0], 0.0).at[0].set(2.0)  # a tie must not displace it
    best, rows = jax.lax.top_k(near, per_shot)
    return jnp.where(best >= overlap, rows, 0).astype(jnp.int32)


def enroll(embeddings: jax.Array, support: Support, options: EnrollOptions) -> jax.Array:
    """Representatives `[way, shots · per_shot, dim]` of the support classes, or their cluster means.

    Args:
      embeddings: `[way, shots, p, dim]`, of the regions of the support.
      support: the same regions.
      options: options of enrolment.
    """

    def of_image(embeddings: jax.Array, boxes: jax.Array, valid: jax.Array) -> jax.Array:
        rows = representative_rows(boxes, valid, per_shot=options.per_shot, overlap=options.overlap)
        return embeddings[rows]

    chosen = jax.vmap(jax.vmap(of_image))(embeddings, support.boxes, support.valid)
    representatives = chosen.reshape(len(chosen), -1, chosen.shape[-1])
    if not 0 < options.clusters < representatives.shape[1]:
        return representatives
    by_class = partial(kmeans, jax.random.key(0), num_clusters=options.clusters)
    return jax.vmap(by_class)(representatives).centroids


class Enrolled(NamedTuple):
    """New classes: their representatives `[way, k, dim]`, and the embedding if fine-tuning changed it."""

    representatives: jax.Array
    layer: Layer | None


def enrolled(
    support: Support,
    layer: Layer | None,
    enrollment: Enrollment,
    *,
    epochs: int = 0,
    known: Known | None = None,
) -> Enrolled:
    """Enrols the support classes; arguments as in `scores_by_representatives`.

    Fine-tuning takes one step per support image, cycling through the classes, with the training losses:
    cross-entropy of the scores, and the margin loss on the embeddings of the class's regions. The features of
    regions are frozen.
    """
    options = enrollment.options
    layer = layer if options.space == "embedding" else None
    layer_learns = options.layer and layer is not None
    embeddings = _embedded(support.features, layer, enrollment)

    def loss_of(params: tuple[jax.Array, Layer | None], regions: SupportRegions) -> jax.Array:
        representatives, layer = params
        embedded = _embedded(regions.features, layer, enrollment) if layer_learns else regions.features
        return representative_loss(
            embedded, _finished(representatives, enrollment), regions, enrollment, known=known
        )

    params = (enroll(embeddings, support, options), layer if layer_learns else None)
    if epochs:
        given = support if layer_learns else support._replace(features=embeddings)
        params = fine_tuned(params, loss_of, regions_of(given, options), options, epochs)
    return Enrolled(*params)


def scores_by_enrolled(
    classes: Enrolled,
    queries: jax.Array,
    layer: Layer | None,
    enrollment: Enrollment,
    known: Known | None = None,
) -> jax.Array:
    """Probabilities of background, enrolled and known classes; see `scores_by_representatives`."""
    layer = layer if enrollment.options.space == "embedding" else None
    embeddings = _embedded(queries, layer if classes.layer is None else classes.layer, enrollment)
    representatives = _finished(classes.representatives, enrollment)
    return jax.nn.softmax(compared(embeddings, representatives, enrollment, known)[1], axis=-1)


def scores_by_representatives(
    support: Support,
    queries: jax.Array,
    layer: Layer | None,
    enrollment: Enrollment,
    *,
    epochs: int = 0,
    known: Known | None = None,
) -> jax.Array:
    """Probabilities of background, of the support classes, and of known classes, if any.

    Args:
      support: the support of the classes.
      queries: features `[..., hidden]` of regions.
      layer: the embedding layer, for the space "embedding" only; None: features are compared directly.
      enrollment: how new classes are enrolled.
      epochs: epochs of fine-tuning; 0: no fine-tuning.
      known: further classes that compete, in the same space; None: none.

    Returns:
      `[..., 1 + way + known]`, background first.
    """
    classes = enrolled(support, layer, enrollment, epochs=epochs, known=known)
    return scores_by_enrolled(classes, queries, layer, enrollment, known)


def imprinted(
    support: Support,
    trained: Layer,
    enrollment: Enrollment,
    *,
    epochs: int = 0,
    known: Known | None = None,
) -> Layer:
    """The linear layer over background, the support classes and known classes; see `scores_by_linear`.

    Background keeps its trained weights. A class starts with imprinted weights (Qi et al., 2018,
    https://arxiv.org/abs/1712.07136): the direction of the mean of its regions' features, with the mean
    length and mean bias of the trained classes. So do trained classes that compete with it: their trained
    weights give far lower logits than imprinted ones, and would never win.
    """
    options = enrollment.options
    chosen = enroll(support.features, support, options)
    means = normalize(jnp.mean(normalize(chosen), axis=1))
    base = trained.kernel[:, 1:]
    length = jnp.mean(jnp.linalg.norm(base, axis=0))
    kernel = jnp.concatenate([trained.kernel[:, :1], length * means.T], axis=1)
    bias = jnp.concatenate([trained.bias[:1], jnp.full(len(means), jnp.mean(trained.bias[1:]))])

    def whole(layer: Layer) -> Layer:
        if known is None:
            return layer
        others = length * normalize(jnp.mean(known.representatives, axis=1))
        biases = jnp.full(len(others), jnp.mean(trained.bias[1:]))
        if known.there is not None:
            biases = jnp.where(known.there, biases, _NEVER)
        return Layer(jnp.concatenate([layer.kernel, others.T], axis=1), jnp.concatenate([layer.bias, biases]))

    def loss_of(layer: Layer, regions: SupportRegions) -> jax.Array:
        logits = whole(layer)(regions.features)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, regions.labels)
        return jnp.sum(losses * regions.weights)

    layer = Layer(kernel, bias)
    if epochs:
        layer = fine_tuned(layer, loss_of, regions_of(support, options), options, epochs)
    return whole(layer)


def scores_by_linear(
    support: Support,
    queries: jax.Array,
    trained: Layer,
    enrollment: Enrollment,
    *,
    epochs: int = 0,
    known: Known | None = None,
) -> jax.Array:
    """Probabilities of background and of the support classes, from a linear layer.

    Args:
      support, queries, epochs: as in `scores_by_representatives`; the layer is trained with cross-entropy.
      trained: the layer over background and the trained classes.
      enrollment: how new classes are enrolled.
      known: trained classes that compete, by the means of their features; None: none.

    Returns:
      `[..., 1 + way + known]`, background first.
    """
    return jax.nn.softmax(
        imprinted(support, trained, enrollment, epochs=epochs, known=known)(queries), axis=-1
    )


def _finished(x: jax.Array, enrollment: Enrollment) -> jax.Array:
    return normalize(x) if enrollment.normalize else x


def _embedded(features: jax.Array, layer: Layer | None, enrollment: Enrollment) -> jax.Array:
    return _finished(features if layer is None else layer(features), enrollment)
