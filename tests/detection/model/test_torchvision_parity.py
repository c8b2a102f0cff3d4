"""The whole detector against torchvision's Faster R-CNN, by random weights that PyTorch saved."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest

from fsljax.detection.model.published import detect, padded, published_detector, resized

pytestmark = pytest.mark.slow

SIZES = ((300, 352), (320, 211))  # of which neither fills its padded image
XY = [1, 0, 3, 2]  # of boxes
TOLERANCE = 1e-3
TIES = 0.03  # share of boxes that rounding may rank otherwise, and so keep or drop


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def torchvision(torch: Any) -> Iterator[ModuleType]:
    """torchvision; where its compiled part is for another build of PyTorch, its operators in Python."""
    for _ in range(20):
        try:
            module = pytest.importorskip("torchvision")
            break
        except RuntimeError as error:
            missing = re.search(r"operator (torchvision::\w+) does not exist", str(error))
            if missing is None:
                raise
            for name in [name for name in sys.modules if name.startswith("torchvision")]:
                del sys.modules[name]
            torch.library.define(missing[1], "(Tensor boxes) -> Tensor")
    else:
        raise AssertionError("torchvision lacks more than its compiled operators")
    with pytest.MonkeyPatch.context() as patch:
        if not module.extension._has_ops():
            align = sys.modules["torchvision.ops.roi_align"]._roi_align.__wrapped__
            patch.setattr(sys.modules["torchvision.ops.boxes"], "nms", partial(greedy_nms, torch))
            patch.setattr(sys.modules["torchvision.ops.poolers"], "roi_align", partial(aligned, align))
        yield module


def greedy_nms(torch: Any, boxes: Any, scores: Any, threshold: float) -> Any:
    """torchvision's operator of this name."""
    order = scores.argsort(descending=True, stable=True)
    rows = boxes[order].numpy()
    areas = (rows[:, 2:] - rows[:, :2]).prod(1)
    left, kept = np.ones(len(rows), bool), []
    for at, box in enumerate(rows):
        if left[at]:
            kept.append(at)
            sides = np.minimum(box[2:], rows[:, 2:]) - np.maximum(box[:2], rows[:, :2])
            shared = np.maximum(sides, 0).prod(1)
            left &= shared <= threshold * (areas[at] + areas - shared)
    return order[torch.tensor(kept, dtype=torch.int64)]


def aligned(
    align: Any, level: Any, rois: Any, *, output_size: Any, spatial_scale: float, sampling_ratio: int
) -> Any:
    return align(level, rois, spatial_scale, *output_size, sampling_ratio, aligned=False)


def calibrated(torch: Any, module: Any, images: Any) -> None:
    """Draws all parameters, so that each layer's outputs are spread about alike and no score saturates."""
    targets = {"cls_logits": 2.0, "rpn.head.bbox_pred": 0.1, "cls_score": 1.5, "predictor.bbox": 2.0}

    def scale_to(target: float, leaf: Any, _: Any, output: Any) -> Any:
        factor = target / output.std()
        for tensor in (leaf.weight, leaf.bias):
            tensor.mul_(factor)
        hooks.pop(leaf).remove()
        return output * factor

    hooks: dict[Any, Any] = {}
    torch.manual_seed(0)
    for name, leaf in module.named_modules():
        if getattr(leaf, "weight", None) is not None:
            if hasattr(leaf, "running_var"):
                leaf.running_mean.normal_(0, 0.1)
                leaf.running_var.uniform_(0.5, 1.5)
                leaf.weight.uniform_(0.5, 1.5)
            else:
                leaf.weight.normal_(0, 1)
            if leaf.bias is None:
                leaf.weight.mul_(float(np.prod(leaf.weight.shape[1:])) ** -0.5)
            else:
                leaf.bias.normal_(0, 0.1)
                target = next((one for part, one in targets.items() if part in name), 1.0)
                hooks[leaf] = leaf.register_forward_hook(partial(scale_to, target))
    module(images)
    for hook in hooks.values():
        hook.remove()


class Both:
    """torchvision's detector and ours of the same weights, and what torchvision's does with images."""

    def __init__(self, torch: Any, torchvision: Any, folder: Path, layout: str, epsilon: float):
        generator = np.random.default_rng(0)
        self.images = [generator.random((*size, 3), np.float32) for size in SIZES]
        make = getattr(torchvision.models.detection, f"fasterrcnn_{layout}")
        self.torch = torch
        self.module = make(weights=None, weights_backbone=None, min_size=320, max_size=352).eval()
        for leaf in self.module.modules():
            if hasattr(leaf, "running_var"):
                leaf.eps = epsilon
        self.given = [torch.from_numpy(image.transpose(2, 0, 1).copy()) for image in self.images]
        calibrated(torch, self.module, self.given)
        path = folder / "weights.pth"
        torch.save(self.module.state_dict(), path)
        self.detector = published_detector(path, layout)
        if epsilon != 1e-5:
            network = self.detector.network
            settings = network.backbone.settings.__class__(epsilon=epsilon)
            changed = network.clone(backbone=network.backbone.clone(settings=settings))
            self.detector = self.detector.__class__(
                self.detector.config, changed, self.detector.variables, self.detector.classes
            )

    def ours(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        network = self.detector.network
        run = jax.jit(partial(network.apply, method=method, **keywords))
        return run(self.detector.network_variables, *arguments)


@pytest.fixture(
    scope="module",
    params=[("resnet50_fpn", 0.0), ("resnet50_fpn_v2", 1e-5), ("mobilenet_v3_large_320_fpn", 1e-5)],
    ids=lambda param: param[0],
)
def both(request: Any, torch: Any, torchvision: Any, tmp_path_factory: Any) -> Both:
    with torch.no_grad():
        return Both(torch, torchvision, tmp_path_factory.mktemp("weights"), *request.param)


def assert_same_boxes(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Each has its like among the others, whatever their order, but for ties."""
    assert abs(len(ours) - len(theirs)) <= TIES * len(theirs)
    apart = np.abs(ours[:, None] - theirs).max(-1)
    for axis in (0, 1):
        assert (apart.min(axis) > TOLERANCE).mean() <= TIES


def test_every_part_and_the_detections_are_torchvisions(both: Both, torch: Any):
    module, images = both.module, both.given
    with torch.no_grad():
        listed, _ = module.transform(images)
        levels = module.backbone(listed.tensors)
        proposals, _ = module.rpn(listed, levels)
        pooled = module.roi_heads.box_roi_pool(levels, proposals, listed.image_sizes)
        features = module.roi_heads.box_head(pooled)
        logits, _ = module.roi_heads.box_predictor(features)
        detected = module(images)

    batch, sizes = padded([image.permute(1, 2, 0).numpy() for image in plain(module, images)], 32)
    assert batch.shape[1:3] == listed.tensors.shape[2:]
    assert [tuple(size) for size in sizes.astype(int)] == listed.image_sizes
    ours = both.ours("trunk", batch, height=sizes[:, 0], width=sizes[:, 1])
    assert len(ours) == len(levels)
    for level, expected in zip(ours, levels.values(), strict=True):
        np.testing.assert_allclose(level, expected.numpy().transpose(0, 2, 3, 1), rtol=0, atol=TOLERANCE)

    proposed = both.ours("propose", ours, sizes[:, 0], sizes[:, 1])
    most = proposed.boxes.shape[1]
    for number, expected in enumerate(proposals):
        assert len(expected) > 20
        found = np.asarray(proposed.boxes[number])[np.asarray(proposed.valid[number])]
        assert_same_boxes(found, expected.numpy()[:, XY])

    counts = [len(one) for one in proposals]
    given = np.stack([np.pad(one.numpy()[:, XY], ((0, most - len(one)), (0, 0))) for one in proposals])
    roi = both.ours("roi_features", ours, given)
    there = np.concatenate(
        [of_image[:count] for of_image, count in zip(np.asarray(roi), counts, strict=True)]
    )
    np.testing.assert_allclose(there, features, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(both.ours("linear_logits", there), logits, rtol=0, atol=TOLERANCE)

    found = detect(both.detector, both.images, min_size=320, max_size=352)
    for one, expected in zip(found, detected, strict=True):
        assert len(expected["scores"]) == len(one.scores) > 10
        np.testing.assert_allclose(one.scores, expected["scores"], atol=1e-4)
        assert_same_boxes(one.boxes, expected["boxes"].numpy()[:, XY])
        assert (one.labels == expected["labels"].numpy() - 1).mean() > 1 - TIES


def plain(module: Any, images: list[Any]) -> list[Any]:
    """The images at torchvision's size, with their colours as they are."""
    return [module.transform.resize(image)[0] for image in images]


def test_images_are_brought_to_size_as_torchvision_does(torchvision: Any, torch: Any):
    image = np.random.default_rng(1).random((37, 61, 3), np.float32)
    transform = torchvision.models.detection.transform.GeneralizedRCNNTransform(
        50, 70, [0.0] * 3, [1.0] * 3
    ).eval()
    expected = transform.resize(torch.from_numpy(image.transpose(2, 0, 1).copy()))[0]
    np.testing.assert_allclose(resized(image, 50, 70), expected.permute(1, 2, 0), atol=1e-5)
