"""A detector's losses: what they are made of, and that they teach."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fsljax.detection.config import HeadOptions, LossOptions, ProposalOptions, PyramidOptions, RoIOptions
from fsljax.detection.data.structures import GroundTruth, ImageBatch
from fsljax.detection.model.detector import DetectorNetwork, DetectorOptions
from fsljax.detection.model.losses import detector_losses, proposal_recall
from fsljax.detection.model.rpn import Proposals
from fsljax.distances import normalize
from fsljax.networks import SceneNet

CLASSES = 3
OPTIONS = LossOptions()
NETWORK = DetectorNetwork(
    SceneNet((1, 1), (8, 8)),
    DetectorOptions(
        PyramidOptions(channels=8, extra_levels=0),
        ProposalOptions(sizes=(8.0, 12.0), before_nms=32, keep=8, sampled=64),
        RoIOptions(
            sampled=16,
            positive_fraction=0.5,
            jittered=2,
            output_size=3,
            canonical_size=100.0,
            canonical_level=0,
        ),
        HeadOptions(hidden=16, dim=8),
        linear_classes=CLASSES,
    ),
)


def squares() -> ImageBatch:
    """Filled, hollow and half filled squares, one or two an image."""
    images = np.zeros((4, 32, 32, 1), np.float32)
    boxes, labels, mask = np.zeros((4, 2, 4), np.float32), np.zeros((4, 2), int), np.zeros((4, 2), bool)
    places = [(0, 0, 2, 2, 0), (1, 0, 4, 16, 1), (2, 0, 16, 6, 2), (2, 1, 3, 18, 0), (3, 0, 18, 18, 1)]
    for image, slot, y, x, label in places:
        images[image, y : y + 11, x : x + 11] = 1
        if label:
            images[image, y + 3 : y + 8, x + 3 : x + (8 if label == 1 else 5)] = 0
        boxes[image, slot], labels[image, slot] = (y, x, y + 11, x + 11), label
        mask[image, slot] = True
    truth = GroundTruth(jnp.asarray(boxes), jnp.asarray(labels), jnp.asarray(mask))
    return ImageBatch(images, truth)


BATCH = squares()


def first_params() -> tuple[Any, Any]:
    variables = jax.jit(lambda key: NETWORK.init(key, BATCH.images, running_average=True))(jax.random.key(0))
    representatives = normalize(jax.random.normal(jax.random.key(1), (CLASSES, 2, 8)))
    return {"network": variables["params"], "representatives": representatives}, variables["batch_stats"]


def losses(params: Any, batch_stats: Any, key: jax.Array, options: LossOptions, with_them: bool) -> Any:
    representatives = params["representatives"] if with_them else None
    return detector_losses(NETWORK, params["network"], batch_stats, representatives, key, BATCH, options)


COMPUTE = jax.jit(losses, static_argnums=(3, 4))


@pytest.mark.parametrize("with_them", [True, False])
def test_the_loss_is_the_weighted_sum_of_its_parts(with_them: bool):
    options = replace(OPTIONS, boxes=2.0, embedding=3.0)
    learned = COMPUTE(*first_params(), jax.random.key(2), options, with_them)
    parts = learned.figures
    total = parts["class_loss"] + 2 * parts["box_loss"] + parts["objectness_loss"]
    total += parts["proposal_box_loss"] + 3 * parts.get("embedding_loss", 0.0)
    np.testing.assert_allclose(learned.loss, total, rtol=1e-6)
    assert ("embedding_loss" in parts) == with_them
    assert all(np.isfinite(value) and value >= 0 for value in parts.values())


def test_only_the_hardest_regions_count_where_that_is_asked_for():
    arguments = (*first_params(), jax.random.key(2))
    everything = COMPUTE(*arguments, OPTIONS, True).figures
    hard = COMPUTE(*arguments, replace(OPTIONS, hard=4), True).figures
    both = [figures["class_loss"] + figures["box_loss"] for figures in (everything, hard)]
    assert both[1] > both[0]


def test_the_linear_loss_is_added_with_its_weight():
    arguments = (*first_params(), jax.random.key(2))
    plain, alone = (COMPUTE(*arguments, OPTIONS, with_them).figures for with_them in (True, False))
    added = COMPUTE(*arguments, replace(OPTIONS, linear=0.5), True).figures
    np.testing.assert_allclose(
        added["class_loss"], plain["class_loss"] + 0.5 * alone["class_loss"], rtol=1e-5
    )


def test_a_few_images_are_overfitted():
    params, batch_stats = first_params()
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params: Any, batch_stats: Any, memory: Any, key: jax.Array) -> Any:
        def loss(params: Any) -> tuple[jax.Array, Any]:
            learned = losses(params, batch_stats, key, OPTIONS, True)
            return learned.loss, learned

        (_, learned), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, memory = optimizer.update(gradients, memory)
        return optax.apply_updates(params, updates), learned.batch_stats, memory, learned.figures

    memory, history = optimizer.init(params), []
    for key in jax.random.split(jax.random.key(3), 150):
        params, batch_stats, memory, figures = step(params, batch_stats, memory, key)
        history.append(jax.device_get(figures))
    last = {name: np.mean([figures[name] for figures in history[-20:]]) for name in history[0]}
    assert last["recall"] > 0.9
    assert last["accuracy"] > 0.9
    assert last["background_accuracy"] > 0.9
    assert last["box_loss"] < history[0]["box_loss"]


def test_recall_counts_objects_that_a_valid_proposal_covers():
    truth = BATCH.ground_truth
    boxes = jnp.stack([truth.boxes[:, 0], truth.boxes[:, 0] + 5, truth.boxes[:, 1]], axis=1)
    for valid, wanted in (((True, True, True), 1.0), ((True, True, False), 4 / 5), ((False, True, False), 0)):
        proposals = Proposals(boxes, jnp.ones((4, 3)), jnp.tile(jnp.array(valid), (4, 1)))
        np.testing.assert_allclose(proposal_recall(proposals, truth), wanted, rtol=1e-6)


def test_the_quality_of_boxes_is_learned_from_what_is_near_to_an_object():
    options = replace(NETWORK.options, head=replace(NETWORK.options.head, quality=True))
    network = NETWORK.clone(options=options)
    variables = jax.jit(lambda key: network.init(key, BATCH.images, running_average=True))(jax.random.key(0))

    def learned(params: Any) -> Any:
        key = jax.random.key(2)
        return detector_losses(network, params, variables["batch_stats"], None, key, BATCH, OPTIONS)

    def loss(params: Any) -> jax.Array:
        return learned(params).figures["quality_loss"]

    gradients = jax.jit(jax.grad(loss))(variables["params"])
    assert np.abs(gradients["head"]["fit"]["kernel"]).max() > 0
    # Where boxes should lie is not moved by how well they are said to lie.
    assert not np.abs(gradients["head"]["changes"]["kernel"]).max()
    start, params = loss(variables["params"]), variables["params"]
    optimizer = optax.adam(3e-3)
    state, step = optimizer.init(params), jax.jit(jax.grad(loss))
    for _ in range(30):
        updates, state = optimizer.update(step(params), state)
        params = optax.apply_updates(params, updates)
    assert loss(params) < 0.95 * start
    whole = learned(params)
    parts = ("class_loss", "objectness_loss", "proposal_box_loss", "quality_loss")
    expected = sum(whole.figures[name] for name in parts) + OPTIONS.boxes * whole.figures["box_loss"]
    np.testing.assert_allclose(whole.loss, expected, rtol=1e-6)


def test_without_the_head_every_box_has_quality_1():
    params, batch_stats = first_params()
    variables = {"params": params["network"], "batch_stats": batch_stats}
    quality = NETWORK.apply(variables, jnp.ones((2, 5, 16)), method="quality")
    np.testing.assert_array_equal(quality, np.ones((2, 5)))


def test_each_class_may_learn_boxes_of_its_own():
    head = HeadOptions(kind="linear", hidden=16, dim=8, class_boxes=True)
    network = NETWORK.clone(options=replace(NETWORK.options, head=head))
    variables = jax.jit(lambda key: network.init(key, BATCH.images, running_average=True))(jax.random.key(0))

    def box_loss(params: Any) -> jax.Array:
        stats, key = variables["batch_stats"], jax.random.key(1)
        learned = detector_losses(network, params, stats, None, key, BATCH, OPTIONS)
        return learned.figures["box_loss"]

    gradient = jax.jit(jax.grad(box_loss))(variables["params"])["head"]["changes"]["bias"]
    by_class = np.abs(gradient.reshape(CLASSES, 4)).sum(1)
    present = np.isin(np.arange(CLASSES), np.asarray(BATCH.ground_truth.labels)[BATCH.ground_truth.mask])
    assert np.all((by_class > 0) == present)


def test_the_sampled_anchors_are_looked_at_again_as_they_were():
    variables = NETWORK.init(jax.random.key(0), BATCH.images, running_average=True)
    levels = NETWORK.apply(variables, BATCH.images, method="trunk")
    outputs = NETWORK.apply(variables, levels, method="proposal_outputs")
    numbers = jnp.array([0, 5, 23, 24, 190, 191, 192, 200, 239])
    for image in (0, 3):
        of_image = [level[image] for level in levels]
        logits, deltas = NETWORK.apply(variables, of_image, numbers, method="proposal_outputs_at")
        whole = jnp.concatenate(outputs.logits, axis=1)[image], jnp.concatenate(outputs.deltas, axis=1)[image]
        np.testing.assert_allclose(logits, whole[0][numbers], atol=1e-5)
        np.testing.assert_allclose(deltas, whole[1][numbers], atol=1e-5)
