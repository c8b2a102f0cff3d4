"""The detector's parts, put together: what goes in and comes out, at a few pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsljax.detection.config import Eval, HeadOptions, ProposalOptions, PyramidOptions, RoIOptions
from fsljax.detection.model.detector import DetectorNetwork, DetectorOptions
from fsljax.detection.model.inference import Suppression, detections, propose_regions, suppression_of
from fsljax.detection.model.roi_head import BACKGROUND, BOX_WEIGHTS, of_labels
from fsljax.detection.ops.boxes import clip, decode
from fsljax.networks import SceneNet

OPTIONS = DetectorOptions(
    PyramidOptions(channels=6),
    ProposalOptions(sizes=(8.0, 16.0, 24.0), ratios=(0.5, 1.0), before_nms=16, keep=5),
    RoIOptions(output_size=2, canonical_size=16.0, canonical_level=1),
    HeadOptions(hidden=7, dim=3),
    linear_classes=4,
)
NETWORK = DetectorNetwork(SceneNet((1, 1), (4, 8)), OPTIONS)
IMAGES = jax.random.uniform(jax.random.key(0), (2, 32, 48, 1))


@pytest.fixture(scope="module")
def variables() -> Any:
    return jax.jit(lambda key: NETWORK.init(key, IMAGES, running_average=True))(jax.random.key(1))


def run(variables: Any, method: str, *arguments: Any, **keywords: Any) -> Any:
    return NETWORK.apply(variables, *arguments, method=method, **keywords)


def test_the_parts_have_the_shapes_that_are_promised(variables: Any):
    levels = run(variables, "trunk", IMAGES)
    assert [level.shape for level in levels] == [(2, 8, 12, 6), (2, 4, 6, 6), (2, 2, 3, 6)]
    outputs = run(variables, "proposal_outputs", levels)
    assert [len(anchors) for anchors in outputs.anchors] == [192, 48, 12]
    assert [x.shape[1] for x in outputs.logits] == [192, 48, 12]
    boxes, scores, valid = run(variables, "propose", levels)
    assert (boxes.shape, scores.shape, valid.shape) == ((2, 5, 4), (2, 5), (2, 5))
    roi = run(variables, "roi_features", levels, boxes)
    assert roi.shape == (2, 5, 7)
    embeddings = run(variables, "embed", roi)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=-1), 1, rtol=1e-5)
    assert run(variables, "linear_logits", roi).shape == (2, 5, 1 + 4)


def test_proposed_regions_are_what_the_parts_give_and_end_where_the_image_does(variables: Any):
    heights, widths = jnp.array([32.0, 20.0]), jnp.array([30.0, 48.0])
    found = jax.jit(lambda v: propose_regions(NETWORK, v, IMAGES, heights, widths))(variables)
    levels = run(variables, "trunk", IMAGES)
    proposals = run(variables, "propose", levels, heights, widths)
    roi = run(variables, "roi_features", levels, proposals.boxes)
    changed = decode(run(variables, "box_changes", roi), proposals.boxes, BOX_WEIGHTS)
    np.testing.assert_allclose(found.boxes, clip(changed, heights[:, None], widths[:, None]), atol=1e-3)
    np.testing.assert_allclose(found.embeddings, run(variables, "embed", roi), atol=1e-5)
    for image, limits in enumerate(((32, 30), (20, 48))):
        assert np.all(found.boxes[image, :, 2:] <= np.array(limits))
        assert np.all(proposals.boxes[image, :, 2:] <= np.array(limits))


def test_batch_statistics_are_those_of_the_batch_in_training_alone(variables: Any):
    _, changed = run(variables, "trunk", IMAGES, train=True, mutable=["batch_stats"])
    frozen = NETWORK.clone(options=replace(OPTIONS, frozen_statistics=True))
    _, kept = frozen.apply(variables, IMAGES, train=True, method="trunk", mutable=["batch_stats"])
    before = jax.tree.leaves(variables["batch_stats"])
    assert any(np.any(a != b) for a, b in zip(before, jax.tree.leaves(changed), strict=True))
    assert all(np.all(a == b) for a, b in zip(before, jax.tree.leaves(kept), strict=True))


def test_an_image_that_the_last_stride_does_not_divide_is_refused_in_words(variables: Any):
    with pytest.raises(ValueError, match=r"30 × 48.*multiples of 8"):
        run(variables, "trunk", IMAGES[:, :30])


BOXES = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [0, 0, 0, 0]], np.float32)
SCORES = np.array(
    [[0.1, 0.8, 0.1], [0.2, 0.3, 0.5], [0.6, 0.35, 0.05], [0.0, 1.0, 0.0]], np.float32
)  # background, and two classes


def found(candidates: int = 512, **options: Any) -> list[tuple[float, int, list[float]]]:
    valid = np.array([True, True, True, False])
    suppression = Suppression(**{"iou_threshold": 0.3, **options})
    result = jax.jit(lambda: detections(BOXES, valid, SCORES, suppression, candidates=candidates))()
    rows = zip(*(np.asarray(x)[np.asarray(result.valid)] for x in result[:3]), strict=True)
    return [(round(float(score), 3), int(label), box.tolist()) for box, score, label in rows]


def test_detections_are_suppressed_within_their_class_alone():
    # Of class 0 the second box is left out; of class 1 the first one, though it is the better in class 0.
    assert found(keep=4) == [
        (0.8, 0, BOXES[0].tolist()),
        (0.5, 1, BOXES[1].tolist()),
        (0.35, 0, BOXES[2].tolist()),
        (0.05, 1, BOXES[2].tolist()),
    ]


def test_weak_detections_and_those_beyond_the_number_are_left_out():
    assert [row[0] for row in found(keep=4, score_threshold=0.4)] == [0.8, 0.5]
    assert [row[0] for row in found(keep=1)] == [0.8]
    assert [row[0] for row in found(keep=4, candidates=2)] == [0.8, 0.5]


def test_soft_suppression_lowers_scores_instead_of_dropping_boxes():
    # The second box's overlap with the first is 0.9: of class 0 it keeps a tenth of its score.
    assert found(keep=6, soft=True) == [
        (0.8, 0, BOXES[0].tolist()),
        (0.5, 1, BOXES[1].tolist()),
        (0.35, 0, BOXES[2].tolist()),
        (0.05, 1, BOXES[2].tolist()),
        (0.03, 0, BOXES[1].tolist()),
        (0.01, 1, BOXES[0].tolist()),
    ]
    assert [row[0] for row in found(keep=6, soft=True, soft_threshold=0.04)] == [0.8, 0.5, 0.35, 0.05]
    gaussian = found(keep=6, soft=True, soft_sigma=0.5)
    assert (round(0.3 * float(np.exp(-(0.9**2) / 0.5)), 3), 0, BOXES[1].tolist()) in gaussian


def test_suppression_is_as_the_config_says():
    options = replace(Eval(), suppression="soft", soft_sigma=0.4, iou_threshold=0.6, score_threshold=0.2)
    assert suppression_of(options, score_threshold=0.2) == Suppression(0.6, 100, 0.2, True, 0.4, 0.001)
    options = replace(Eval(), candidates=9, smallest_box=0.5)
    assert suppression_of(options) == Suppression(
        0.3, 100, soft_threshold=0.001, candidates=9, least_side=0.5
    )
    assert suppression_of(Eval(), keep=7) == Suppression(0.3, 7, 0.0, False, 0.0, 0.001)


def test_each_class_may_have_boxes_of_its_own():
    valid, boxes = np.array([True, True, True, False]), np.stack([BOXES, BOXES + 1], axis=1)
    suppression = Suppression(iou_threshold=0.3, keep=4, least_side=9.5)
    result = jax.jit(lambda: detections(boxes, valid, SCORES, suppression))()
    rows = np.asarray(result.valid)
    # Of class 1 the second region, which is its best, is less than 9.5 wide: the first takes its place.
    assert np.asarray(result.boxes)[rows].tolist() == [
        BOXES[0].tolist(),
        BOXES[2].tolist(),
        (BOXES[0] + 1).tolist(),
        (BOXES[2] + 1).tolist(),
    ]
    assert np.asarray(result.labels)[rows].tolist() == [0, 0, 1, 1]


def test_a_layout_of_torchvisions_has_its_parts_and_boxes_of_classes():
    options = replace(
        OPTIONS,
        pyramid=PyramidOptions(channels=6, norm=True),
        proposals=replace(OPTIONS.proposals, anchors="corners", convolutions=2),
        head=HeadOptions(kind="linear", hidden=7, dim=3, dense=1, convolutions=2, class_boxes=True),
    )
    network = DetectorNetwork(NETWORK.backbone, options)
    variables = jax.jit(lambda key: network.init(key, IMAGES, running_average=True))(jax.random.key(1))
    assert sorted(variables["params"]["head"]) == [
        "changes",
        "conv0",
        "conv1",
        "embedding",
        "hidden0",
        "linear",
    ]
    found = jax.jit(lambda v: propose_regions(network, v, IMAGES, jnp.array([32.0, 20.0]), 48.0))(variables)
    assert found.boxes.shape == (2, 5, 4, 4)
    assert np.all(found.boxes[1, ..., 2] <= 20)
    levels = network.apply(variables, IMAGES, method="trunk")
    roi = network.apply(variables, levels, BOXES[None, :1].repeat(2, 0), method="roi_features")
    changes = network.apply(variables, roi, method="box_changes")
    own = of_labels(changes, jnp.array([[3], [BACKGROUND]]))
    np.testing.assert_array_equal(own[:, 0], [changes[0, 0, 2], changes[1, 0, 0]])


def test_padding_may_count_as_the_mean(variables: Any):
    filled = NETWORK.clone(options=replace(OPTIONS, mean_fill=True, input_mean=(0.5,)))
    other = IMAGES.at[0, 20:].set(0.9).at[0, :, 40:].set(0.1)
    ends = {"height": jnp.array([20.0, 32.0]), "width": jnp.array([40.0, 48.0])}
    levels = [filled.apply(variables, images, method="trunk", **ends) for images in (IMAGES, other)]
    jax.tree.map(np.testing.assert_array_equal, *levels)
    gray = IMAGES.at[0, 20:].set(0.5).at[0, :, 40:].set(0.5)
    plain = NETWORK.clone(options=replace(OPTIONS, input_mean=(0.5,))).apply(variables, gray, method="trunk")
    np.testing.assert_allclose(levels[0][0], plain[0], atol=1e-6)
