"""State dicts of torchvision's detectors, made by hand: what comes to which place, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fsljax.detection.config import HeadOptions, ProposalOptions, PyramidOptions, RoIOptions
from fsljax.detection.model.detector import DetectorNetwork, DetectorOptions
from fsljax.errors import UserError
from fsljax.networks import Embedding, ResNet
from fsljax.networks.weights import load_weights, torch_names

TRUNK = ResNet((1, 1), filters=4, small_images=True)
CHANNELS, ANCHORS, HIDDEN, SIDE, CLASSES = 6, 2, 5, 2, 3
BOXES = "roi_heads.box_predictor.bbox_pred"


def network(classes: int = CLASSES, **options: Any) -> DetectorNetwork:
    kind = "linear" if classes else "repmet"
    head = {"class_boxes": True, "hidden": HIDDEN, "dim": 4, "kind": kind, **options.get("head", {})}
    return DetectorNetwork(
        TRUNK,
        DetectorOptions(
            PyramidOptions(channels=CHANNELS, **options.get("pyramid", {})),
            ProposalOptions(sizes=(8.0, 16.0, 32.0), ratios=(0.5, 1.0), **options.get("proposals", {})),
            RoIOptions(output_size=SIDE),
            HeadOptions(**head),
            linear_classes=classes,
        ),
    )


@pytest.fixture
def published(draw: Callable[..., Any]) -> dict[str, np.ndarray]:
    """The state dict of such a detector, as torchvision of today saves it."""
    generator = np.random.default_rng(0)
    trunk = draw(TRUNK, 16, 16, 3)
    shapes = {}
    for name, place in torch_names(trunk).items():
        shape = trunk[place[0]]
        for part in place[1:]:
            shape = shape[part]
        order = (3, 2, 0, 1) if np.ndim(shape) == 4 else range(np.ndim(shape))
        shapes[f"backbone.body.{name}"] = tuple(np.shape(shape)[axis] for axis in order)
    for level, inputs in enumerate((4, 8)):
        shapes[f"backbone.fpn.inner_blocks.{level}.0.weight"] = (CHANNELS, inputs, 1, 1)
        shapes[f"backbone.fpn.inner_blocks.{level}.0.bias"] = (CHANNELS,)
        shapes[f"backbone.fpn.layer_blocks.{level}.0.weight"] = (CHANNELS, CHANNELS, 3, 3)
        shapes[f"backbone.fpn.layer_blocks.{level}.0.bias"] = (CHANNELS,)
    for name, outputs, window in (("conv.0.0", CHANNELS, 3), ("cls_logits", ANCHORS, 1),
                                  ("bbox_pred", 4 * ANCHORS, 1)):  # fmt: skip
        shapes[f"rpn.head.{name}.weight"] = (outputs, CHANNELS, window, window)
        shapes[f"rpn.head.{name}.bias"] = (outputs,)
    for name, outputs, inputs in (("box_head.fc6", HIDDEN, CHANNELS * SIDE**2),
                                  ("box_head.fc7", HIDDEN, HIDDEN),
                                  ("box_predictor.cls_score", 1 + CLASSES, HIDDEN),
                                  ("box_predictor.bbox_pred", 4 * (1 + CLASSES), HIDDEN)):  # fmt: skip
        shapes[f"roi_heads.{name}.weight"] = (outputs, inputs)
        shapes[f"roi_heads.{name}.bias"] = (outputs,)
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def load(draw: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    def loaded(tensors: dict[str, np.ndarray], of: Any) -> tuple[Any, Any]:
        """Variables before and after."""
        path = tmp_path / "detector.npz"
        np.savez(path, **tensors)
        before = draw(of, 16, 16, 3)
        return before, load_weights(path, before)

    return loaded


def test_every_tensor_comes_to_its_place_in_our_order(published, load):
    _, loaded = load(published, network())
    params = loaded["params"]
    for level, part in ((0, "lateral"), (1, "output")):
        theirs = f"backbone.fpn.{'inner' if part == 'lateral' else 'layer'}_blocks.{level}.0"
        into = params["pyramid"][f"{part}{level}"]
        np.testing.assert_array_equal(
            into["conv"]["kernel"], published[f"{theirs}.weight"].transpose(2, 3, 1, 0)
        )
        np.testing.assert_array_equal(into["bias"], published[f"{theirs}.bias"])
    np.testing.assert_array_equal(params["proposals"]["shared"]["bias"], published["rpn.head.conv.0.0.bias"])
    np.testing.assert_array_equal(
        params["proposals"]["objectness"]["conv"]["kernel"][0, 0],
        published["rpn.head.cls_logits.weight"][..., 0, 0].T,
    )
    changes, theirs = params["proposals"]["changes"], published["rpn.head.bbox_pred.weight"]
    for anchor in range(ANCHORS):
        for ours, of_x_first in enumerate((1, 0, 3, 2)):
            np.testing.assert_array_equal(
                changes["conv"]["kernel"][0, 0, :, 4 * anchor + ours],
                theirs[4 * anchor + of_x_first, :, 0, 0],
            )
    first = np.asarray(params["head"]["hidden0"]["kernel"]).reshape(SIDE, SIDE, CHANNELS, HIDDEN)
    there = published["roi_heads.box_head.fc6.weight"].reshape(HIDDEN, CHANNELS, SIDE, SIDE)
    np.testing.assert_array_equal(first, there.transpose(2, 3, 1, 0))
    scores = published["roi_heads.box_predictor.cls_score.weight"]
    np.testing.assert_array_equal(params["head"]["linear"]["kernel"], scores.T)
    # Background's own boxes, which are first, are of no use.
    of_classes = published[f"{BOXES}.bias"].reshape(1 + CLASSES, 4)[1:, [1, 0, 3, 2]]
    np.testing.assert_array_equal(params["head"]["changes"]["bias"].reshape(CLASSES, 4), of_classes)
    np.testing.assert_array_equal(
        loaded["batch_stats"]["backbone"]["layer2"]["0"]["bn1"]["mean"],
        published["backbone.body.layer2.0.bn1.running_mean"],
    )


def test_names_of_before_are_the_same(published, load):
    def before(name: str) -> str:
        if name.startswith("backbone.fpn"):
            return name.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        return name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")

    old = {before(name): tensor for name, tensor in published.items()}
    assert "rpn.head.conv.bias" in old and "backbone.fpn.inner_blocks.1.bias" in old
    (_, ours), (_, theirs) = load(published, network()), load(old, network())
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_scores_and_boxes_of_other_classes_are_left_out_in_a_sentence(published, load, caplog):
    with caplog.at_level(logging.INFO, logger="absl"):
        before, loaded = load(published, network(CLASSES + 2))
    assert f"its scores and boxes of {CLASSES} classes are skipped" in caplog.text
    assert "head.changes, head.embedding, head.linear keep their initial values" in caplog.text
    for name in ("linear", "changes"):
        jax.tree.map(
            np.testing.assert_array_equal, loaded["params"]["head"][name], before["params"]["head"][name]
        )


def test_a_head_of_representatives_takes_the_dense_layers(published, load, caplog):
    with caplog.at_level(logging.INFO, logger="absl"):
        before, loaded = load(published, network(0))
    assert f"its scores and boxes of {CLASSES} classes are skipped" in caplog.text
    head, first = loaded["params"]["head"], before["params"]["head"]
    np.testing.assert_array_equal(head["hidden1"]["kernel"], published["roi_heads.box_head.fc7.weight"].T)
    jax.tree.map(np.testing.assert_array_equal, head["changes"], first["changes"])


def test_boxes_alike_for_all_classes_are_in_no_file(published, load, caplog):
    with caplog.at_level(logging.INFO, logger="absl"):
        _, loaded = load(published, network(head={"class_boxes": False}))
    assert f"its boxes of {CLASSES} classes are skipped" in caplog.text
    scores = published["roi_heads.box_predictor.cls_score.bias"]
    np.testing.assert_array_equal(loaded["params"]["head"]["linear"]["bias"], scores)


def test_the_second_version_has_batch_norm_and_more_convolutions(published, load):
    norms = {}
    for name in [name for name in published if "fpn" in name]:
        if name.endswith("bias"):
            norms |= {
                name.replace(".0.bias", f".1.{kind}"): np.full(CHANNELS, 2.0, np.float32)
                for kind in ("weight", "bias", "running_mean", "running_var")
            }
    plain = {name: of for name, of in published.items() if not ("fpn" in name and name.endswith("bias"))}
    plain = {name: of for name, of in plain.items() if "box_head" not in name} | norms
    plain["rpn.head.conv.1.0.weight"] = plain["rpn.head.conv.0.0.weight"] + 1
    plain["rpn.head.conv.1.0.bias"] = plain["rpn.head.conv.0.0.bias"] + 1
    plain["roi_heads.box_head.0.0.weight"] = np.ones((CHANNELS, CHANNELS, 3, 3), np.float32)
    for kind in ("weight", "bias", "running_mean", "running_var"):
        plain[f"roi_heads.box_head.0.1.{kind}"] = np.full(CHANNELS, 3.0, np.float32)
    plain["roi_heads.box_head.0.1.num_batches_tracked"] = np.array(7)
    plain["roi_heads.box_head.2.weight"] = published["roi_heads.box_head.fc6.weight"]
    plain["roi_heads.box_head.2.bias"] = published["roi_heads.box_head.fc6.bias"]
    second = network(
        pyramid={"norm": True}, proposals={"convolutions": 2}, head={"convolutions": 1, "dense": 1}
    )
    _, loaded = load(plain, second)
    params = loaded["params"]
    np.testing.assert_array_equal(params["proposals"]["shared1"]["bias"], plain["rpn.head.conv.1.0.bias"])
    np.testing.assert_array_equal(loaded["batch_stats"]["pyramid"]["output1"]["norm"]["variance"], 2)
    np.testing.assert_array_equal(params["head"]["conv0"]["norm"]["shift"], 3)
    with pytest.raises(UserError, match=r"'rpn.head.conv.1.0.bias'.*--config.proposals.convolutions"):
        load(plain, network(pyramid={"norm": True}, head={"convolutions": 1, "dense": 1}))


def test_another_network_takes_the_trunk_alone(published, load, caplog):
    with caplog.at_level(logging.INFO, logger="absl"):
        _, loaded = load(published, Embedding(TRUNK, (3,)))
    assert "only the backbone of its detector is used" in caplog.text
    np.testing.assert_array_equal(
        loaded["params"]["backbone"]["conv1"]["kernel"],
        published["backbone.body.conv1.weight"].transpose(2, 3, 1, 0),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rpn.head.cls_logits.bias": None}, r"has no tensor 'rpn.head.cls_logits.bias'.*shape \(2,\)"),
        ({"backbone.fpn.extra_blocks.p6.weight": np.ones(3)}, "a tensor 'backbone.fpn.extra_blocks.p6"),
        ({"rpn.head.conv.0.0.bias": np.ones(7)}, r"'rpn.head.conv.0.0.bias' has shape \(7,\).*\(6,\)"),
        ({"rpn.head.bbox_pred.bias": np.ones(7)}, r"'rpn.head.bbox_pred.bias' has shape \(7,\)"),
        ({"roi_heads.box_head.fc6.bias": np.full(HIDDEN, np.nan)}, "values that are not finite"),
        ({"backbone.body.conv1.weight": None}, "has no tensor 'backbone.body.conv1.weight'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_sentence(published, load, change, message):
    tensors = {name: of for name, of in (published | change).items() if of is not None}
    with pytest.raises(UserError, match=message):
        load(tensors, network())


def test_masks_and_keypoints_are_left_out(published, load):
    more = published | {
        "roi_heads.mask_head.mask_fcn1.weight": np.ones((2, 2)),
        "roi_heads.keypoint_x": np.ones(1),
    }
    jax.tree.map(np.testing.assert_array_equal, load(more, network())[1], load(published, network())[1])
