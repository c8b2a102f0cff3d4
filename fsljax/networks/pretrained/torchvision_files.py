"""Files of torchvision's detectors, which are no repositories: known by the first digits of their SHA-256."""

from __future__ import annotations

from typing import NamedTuple

from fsljax.networks.pretrained.description import Description

_ADDRESS = "https://download.pytorch.org/models/"
_COLOURS = {"input_mean": (0.485, 0.456, 0.406), "input_std": (0.229, 0.224, 0.225)}


class TorchvisionFile(NamedTuple):
    """A file that torchvision publishes, trained on COCO, BSD-3-Clause.

    Attributes:
      file: its name, which ends in the first eight digits of its SHA-256.
      network: of `fsljax.networks.backbones`, its trunk.
      epsilon: that its batch norm adds to variances.
    """

    file: str
    network: str
    epsilon: float = 1e-5

    @property
    def address(self) -> str:
        return _ADDRESS + self.file

    @property
    def description(self) -> Description:
        network = {"name": self.network, "padding": "symmetric", "epsilon": self.epsilon, **_COLOURS}
        return Description(network, {}, self.network)


FILES = {
    "fasterrcnn_resnet50_fpn": TorchvisionFile(
        # torchvision itself sets the ε of these to 0: they were trained without.
        "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", "resnet50", 0.0
    ),
    "fasterrcnn_resnet50_fpn_v2": TorchvisionFile(
        "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth", "resnet50"
    ),
    "fasterrcnn_mobilenet_v3_large_fpn": TorchvisionFile(
        "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth", "mobilenet_v3_large"
    ),
    "fasterrcnn_mobilenet_v3_large_320_fpn": TorchvisionFile(
        "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth", "mobilenet_v3_large"
    ),
}  # fmt: skip


def published_file(name: str) -> TorchvisionFile | None:
    """The file of a detector by torchvision's name for it, with "torchvision/" before it or not."""
    return FILES.get(name.removeprefix("torchvision/"))


def known_file(digest: str) -> TorchvisionFile | None:
    """The file with this SHA-256; None: it is none of torchvision's detectors."""
    ends = (f"-{digest[:8]}.pth",)
    return next((known for known in FILES.values() if known.file.endswith(ends)), None)
