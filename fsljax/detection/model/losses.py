"""The losses of a detector: for its proposals, and for the classes, embeddings and boxes of regions."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fsljax.detection.config import LossOptions
from fsljax.detection.data.structures import GroundTruth, ImageBatch
from fsljax.detection.model.detector import DetectorNetwork
from fsljax.detection.model.roi_head import (
    BACKGROUND,
    BOX_WEIGHTS,
    RoITargets,
    of_labels,
    repmet_logits,
    roi_targets,
    squared_distances,
)
from fsljax.detection.model.rpn import ProposalLosses, Proposals, proposal_losses, smooth_l1
from fsljax.detection.ops.boxes import decode, encode, iou
from fsljax.detection.ops.matching import hardest
from fsljax.losses import repmet_loss
from fsljax.networks.variables import Params
from fsljax.parallel import shares

_NEAR = 0.1  # IoU from which a region's box tells how well boxes fit
_WIDE_FROM = 256  # channels


class Learned(NamedTuple):
    """Result of `detector_losses`.

    Attributes:
      loss: `[]`, the weighted sum.
      figures: `[]` each: the losses, and fractions to monitor training.
      batch_stats: batch statistics of the network after the batch.
    """

    loss: jax.Array
    figures: dict[str, jax.Array]
    batch_stats: Params


def detector_losses(
    network: DetectorNetwork,
    params: Params,
    batch_stats: Params,
    representatives: jax.Array | None,
    key: jax.Array,
    batch: ImageBatch,
    options: LossOptions,
) -> Learned:
    """The losses of a batch (Karlinsky et al., 2019, section 3; Ren et al., 2015, equation 1).

    With representatives, regions are classified by softmax(scale · [background, p_1 … p_C]), and the
    embeddings of positive regions are trained with a RepMet loss; without, regions are classified by the
    linear classifier only.

    Args:
      network: the network to train.
      params, batch_stats: its variables.
      representatives: `[classes, k, dim]`; None: no representatives.
      key: random key for sampling anchors and regions.
      batch: images `[b, height, width, channel]` in [0, 1], this device's share of a step's images.
      options: options of the losses; which regions are sampled is set by the network's `options.rois`.
    """
    variables = {"params": params, "batch_stats": batch_stats}
    images, sizes = jnp.asarray(batch.images), batch.sizes
    boxes, labels, present = map(jnp.asarray, batch.ground_truth[:3])

    def run(method: str, *arguments: Any) -> Any:
        return network.apply(variables, *arguments, method=method)

    ends: Any = [] if sizes is None else jnp.moveaxis(sizes, 1, 0)
    levels, changed = network.apply(variables, images, True, *ends, method="trunk", mutable=["batch_stats"])
    outputs = run("proposal_outputs", levels)
    proposals = run("propose_from", outputs, levels, *ends)
    anchor_key, region_key = jax.random.split(key)
    anchors = jnp.concatenate(outputs.anchors)
    difficult, mask = None, present
    if batch.ground_truth.difficult is not None:
        difficult = present & jnp.asarray(batch.ground_truth.difficult)
        mask = jnp.asarray(batch.ground_truth.non_difficult_mask())

    def keys_of_images(key: jax.Array) -> jax.Array:
        return shares.share(jax.random.split(key, len(images) * shares.count()))

    def proposed_in(
        levels: list[jax.Array],
        key: jax.Array,
        logits: jax.Array,
        deltas: jax.Array,
        boxes: jax.Array,
        mask: jax.Array,
        difficult: jax.Array | None,
    ) -> ProposalLosses:
        look = partial(run, "proposal_outputs_at", levels) if _looks_again(network) else None
        options = network.options.proposals
        return proposal_losses(key, logits, deltas, anchors, boxes, mask, options, difficult, look)

    proposed = jax.vmap(proposed_in)(
        levels,
        keys_of_images(anchor_key),
        jnp.concatenate(outputs.logits, axis=1),
        jnp.concatenate(outputs.deltas, axis=1),
        boxes,
        mask,
        difficult,
    )
    regions = jax.vmap(partial(roi_targets, options=network.options.rois))(
        keys_of_images(region_key),
        proposals.boxes,
        proposals.valid,
        boxes,
        labels,
        mask,
        difficult=difficult,
    )
    positive = regions.labels != BACKGROUND
    roi = run("roi_features", levels, regions.boxes)
    changes = run("box_changes", roi)
    if network.options.head.has_class_boxes():
        changes = of_labels(changes, regions.labels)
    box_losses = jnp.where(
        positive,
        smooth_l1(
            changes - encode(regions.true_boxes, regions.boxes, BOX_WEIGHTS),
            beta=1.0,
        ),
        0.0,
    )
    class_losses = jnp.zeros(positive.shape)
    figures: dict[str, jax.Array] = {}
    if representatives is not None:
        embeddings = run("embed", roi)
        nearest = jnp.min(squared_distances(embeddings, representatives), axis=-1)
        logits = repmet_logits(nearest, options.sigma, options.scale)
        class_losses += optax.softmax_cross_entropy_with_integer_labels(logits, regions.labels)
        figures |= _shares(logits, regions.labels, regions.valid)
        figures["embedding_loss"] = _embedding_loss(
            embeddings, regions.labels, representatives, options, network.options.rois.positive_fraction
        )
    if representatives is None or options.linear:
        logits = run("linear_logits", roi)
        linear_losses = optax.softmax_cross_entropy_with_integer_labels(logits, regions.labels)
        class_losses += linear_losses * (1.0 if representatives is None else options.linear)
        figures = _shares(logits, regions.labels, regions.valid) | figures
    if network.options.head.quality:
        figures["quality_loss"] = _quality_loss(run("quality_logits", roi), regions, changes, boxes, present)
    counted = regions.valid
    if options.hard:
        hard = jax.vmap(lambda losses, valid: hardest(losses, valid, options.hard))
        counted = hard(class_losses + box_losses, regions.valid)
    figures |= {
        "class_loss": _mean(class_losses, counted),
        "box_loss": _mean(box_losses, counted),
        "objectness_loss": jnp.mean(proposed.objectness),
        "proposal_box_loss": jnp.mean(proposed.boxes),
        "recall": proposal_recall(proposals, batch.ground_truth),
    }
    loss = (
        figures["class_loss"]
        + options.boxes * figures["box_loss"]
        + figures["objectness_loss"]
        + figures["proposal_box_loss"]
        + options.quality * figures.get("quality_loss", jnp.zeros(()))
        + options.embedding * figures.get("embedding_loss", jnp.zeros(()))
    )
    return Learned(loss, figures, changed.get("batch_stats", batch_stats))


def _looks_again(network: DetectorNetwork) -> bool:
    """Whether the sampled anchors alone are derived: with many channels the rest costs more than twice."""
    options = network.options
    return options.proposals.convolutions == 1 and options.pyramid.channels >= _WIDE_FROM


def proposal_recall(proposals: Proposals, ground_truth: GroundTruth, threshold: float = 0.5) -> jax.Array:
    """Fraction `[]` of objects that a proposal overlaps by a given IoU."""
    overlaps = jax.vmap(iou)(proposals.boxes, jnp.asarray(ground_truth.boxes))
    covered = jnp.max(jnp.where(proposals.valid[..., None], overlaps, 0.0), axis=1) >= threshold
    return _mean(covered, jnp.asarray(ground_truth.non_difficult_mask()))


def _embedding_loss(
    embeddings: jax.Array,
    labels: jax.Array,
    representatives: jax.Array,
    options: LossOptions,
    positive_fraction: float,
) -> jax.Array:
    """Mean embedding loss of positive regions, which come first in every image."""
    most = max(int(labels.shape[1] * positive_fraction), 1)
    embeddings, labels = embeddings[:, :most].reshape(-1, embeddings.shape[-1]), labels[:, :most].reshape(-1)
    losses = repmet_loss(
        embeddings,
        jnp.maximum(labels - 1, 0),
        representatives,
        sigma=options.embedding_sigma,
        alpha=options.alpha,
        version=options.version,
        squared=options.version == "margin",
    ).example_losses
    return _mean(losses, labels != BACKGROUND)


def _quality_loss(
    logits: jax.Array, regions: RoITargets, changes: jax.Array, true_boxes: jax.Array, present: jax.Array
) -> jax.Array:
    """Cross-entropy of the predicted IoU of refined boxes, of regions that are near to an object.

    Others say nothing: what is far from all objects that are known may be one that is not.
    """
    refined = decode(jax.lax.stop_gradient(changes), regions.boxes, BOX_WEIGHTS)
    overlaps = jnp.max(jax.vmap(iou)(refined, true_boxes) * present[:, None], axis=-1, initial=0.0)
    near = regions.valid & (overlaps >= _NEAR)
    return _mean(optax.sigmoid_binary_cross_entropy(logits, overlaps), near)


def _shares(logits: jax.Array, labels: jax.Array, valid: jax.Array) -> dict[str, jax.Array]:
    """How often the class of a positive region is right, and background is known to be background."""
    right = jnp.argmax(logits, axis=-1) == labels
    classes_right = jnp.argmax(logits[..., 1:], axis=-1) == labels - 1
    positive = labels != BACKGROUND
    return {
        "accuracy": _mean(classes_right, positive),
        "background_accuracy": _mean(right, valid & ~positive),
    }


def _mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Of the images of all devices."""
    of_share = jnp.sum(jnp.where(mask, values, 0)), jnp.sum(mask)
    summed, count = shares.total(of_share)
    return summed / jnp.maximum(count, 1)
