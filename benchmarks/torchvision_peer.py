"""torchvision's Faster R-CNN, for `detector_duel.py`: needs PyTorch, torchvision, safetensors and NumPy."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import detector_duel as task
import duel
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models import mobilenet_v2, resnet50
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.misc import FrozenBatchNorm2d

from fsljax.training.host_memory import keep_freed_memory

SPREAD = {"cls_logits": 2.0, "rpn.head.bbox_pred": 0.1, "cls_score": 1.5, "predictor.bbox": 1.0}


def detector(trunk: str) -> FasterRCNN:
    """Faster R-CNN on the stages that ours takes of the trunk."""
    if trunk == "resnet50":
        body, channels = resnet50(norm_layer=FrozenBatchNorm2d), [256, 512, 1024, 2048]
        stages = {f"layer{number + 1}": str(number) for number in range(4)}
    else:
        body, channels = mobilenet_v2(norm_layer=FrozenBatchNorm2d).features, [24, 32, 96, 1280]
        stages = {"3": "0", "6": "1", "13": "2", "18": "3"}
    backbone = BackboneWithFPN(body, stages, channels, 256, LastLevelMaxPool())
    sides = tuple((32 * 2**number,) for number in range(5))
    return FasterRCNN(
        backbone,
        1 + task.CLASSES,
        min_size=task.SIZE,
        max_size=task.SIZE,
        rpn_anchor_generator=AnchorGenerator(sides, ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=1000,
        rpn_pre_nms_top_n_test=1000,
        rpn_post_nms_top_n_train=task.PROPOSALS,
        rpn_post_nms_top_n_test=task.PROPOSALS,
        box_batch_size_per_image=task.REGIONS,
    )


def spread_outputs(module: nn.Module, images: list[Tensor]) -> None:
    """Scales each layer, so that scores differ as a trained detector's do."""
    waiting: dict[nn.Module, Any] = {}

    def scale(name: str) -> Any:
        target = next((value for part, value in SPREAD.items() if part in name), 1.0)

        def hook(leaf: Any, _: Any, output: Tensor) -> Tensor:
            factor = target / output.std()
            for tensor in (leaf.weight, leaf.bias):
                tensor.mul_(factor)
            waiting.pop(leaf).remove()
            return output * factor

        return hook

    for name, leaf in module.named_modules():
        if getattr(leaf, "bias", None) is not None:
            waiting[leaf] = leaf.register_forward_hook(scale(name))
    with torch.no_grad():
        module.eval()(images)
    for handle in list(waiting.values()):
        handle.remove()


def main(work: str, trunk: str, weights: str, name: str) -> None:
    if duel.TUNED in name:
        keep_freed_memory()
    torch.manual_seed(0)
    layout = torch.channels_last if "channels_last" in name else torch.contiguous_format
    model = detector(trunk)
    images = [torch.from_numpy(one).permute(2, 0, 1) for one in task.photographs(task.IMAGES[work])]
    if Path(weights).exists():
        model.load_state_dict(load_file(weights))
    else:
        spread_outputs(model, images)
        save_file(model.state_dict(), weights)
    model = model.to(memory_format=layout)
    about: dict[str, Any] = {"version": f"PyTorch {torch.__version__}, Python {platform.python_version()}"}
    if work == "inference":
        model.eval()

        @torch.inference_mode()
        def once() -> Any:
            return model(images)

        about["found"] = sum(len(one["scores"]) for one in once())
    else:
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9, fused=True)
        boxes, labels = map(torch.from_numpy, task.objects(len(images)))
        truth = [
            {"boxes": of[:, [1, 0, 3, 2]], "labels": 1 + own.long()}
            for of, own in zip(boxes, labels, strict=True)
        ]

        def once() -> None:
            optimizer.zero_grad(set_to_none=True)
            sum(losses(model(images, truth))).backward()
            optimizer.step()

    for _ in range(2):
        once()
    calls = task.CALLS_A_TURN[trunk]
    duel.serve(lambda: {work: duel.seconds(lambda: [once() for _ in range(calls)]) / calls}, about)


def losses(output: dict[str, Tensor]) -> Iterator[Tensor]:
    yield from output.values()


if __name__ == "__main__":
    main(*sys.argv[1:])
