"""Embedding networks (Flax linen)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
from ml_collections import ConfigDict

from fsljax.config import check_at_least, check_choice, check_whole, get
from fsljax.errors import UserError
from fsljax.networks.backbones.conv4 import Conv4
from fsljax.networks.backbones.inception_v3 import InceptionV3
from fsljax.networks.backbones.lenet import LeNet
from fsljax.networks.backbones.mobilenet_v2 import MobileNetV2
from fsljax.networks.backbones.scene_net import SceneNet
from fsljax.networks.embedding import Embedding, trainable_mask
from fsljax.networks.layers import PADDINGS, TRAINABLE, Settings
from fsljax.networks.resnet import ResNet, resnet18, resnet50, resnet101, resnet_small
from fsljax.networks.weights import check_suffix, content_hash, has_folded_norm, load_weights

__all__ = ["Conv4", "Embedding", "InceptionV3", "LeNet", "MobileNetV2", "ResNet", "SceneNet", "Settings",
           "build", "build_backbone", "check_head", "content_hash", "has_folded_norm", "last_stage",
           "load_weights", "trainable_mask"]  # fmt: skip

# Those that a detector can be built on.
STAGED = ("mobilenet_v2", "resnet18", "resnet50", "resnet101", "resnet_small", "scene_net")


def _scene_net(settings: Settings) -> SceneNet:
    return SceneNet(settings=settings)


_BACKBONES: dict[str, Callable[[Settings], LeNet | MobileNetV2 | ResNet | InceptionV3 | SceneNet]] = {
    "lenet": LeNet,
    "mobilenet_v2": MobileNetV2,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "resnet_small": resnet_small,
    "scene_net": _scene_net,
    "inception_v3": InceptionV3,
}


def build(config: ConfigDict) -> nn.Module:
    """The network that `config.network` describes: its backbone, in an `Embedding` where it asks for more.

    Raises:
      UserError: if a field has a value that cannot be, or the images are too small for the network.
    """
    _check(config)
    network = config.network
    backbone = _backbone(config)
    embedding = Embedding(
        backbone,
        tuple(network.embedding),
        network.normalize,
        tuple(network.input_mean),
        tuple(network.input_std),
        frozen=network.trainable == "head",
        frozen_statistics=network.frozen_statistics,
    )
    return backbone if embedding == Embedding(backbone) and network.trainable == "all" else embedding


def build_backbone(config: ConfigDict) -> MobileNetV2 | ResNet | SceneNet:
    """The backbone that `config.network` describes, for a detector: one with `stages`.

    Raises:
      UserError: if it has none, or a field has a value that cannot be.
    """
    check_choice(config, "network.name", STAGED)
    _check(config)
    backbone = _backbone(config)
    assert isinstance(backbone, MobileNetV2 | ResNet | SceneNet)
    return backbone


def check_head(config: ConfigDict) -> None:
    """Raises a UserError if the head alone is to be trained and there is none."""
    if config.network.trainable == "head" and not config.network.embedding:
        raise UserError(
            "config.network.trainable is 'head', but there is no head: give its layers, "
            "--config.network.embedding=256, or train more of the network."
        )


def last_stage(config: ConfigDict) -> tuple[str, ...]:
    """Names of the backbone's parts that are trained with `network.trainable="last_stage"`."""
    return _backbone(config).last_stage()


def _backbone(config: ConfigDict) -> Conv4 | LeNet | MobileNetV2 | ResNet | InceptionV3 | SceneNet:
    network = config.network
    if network.name == "conv4":
        return Conv4(network.filters, network.blocks, network.momentum, network.kernels, network.trainable)
    settings = Settings(network.padding, network.momentum, network.kernels, network.trainable)
    return _BACKBONES[network.name](settings)


def _check(config: ConfigDict) -> None:
    network = config.network
    check_choice(config, "network.name", ("conv4", *_BACKBONES))
    if network.kernels not in ("auto", "cpu", "xla"):
        raise UserError(f"config.network.kernels is {network.kernels!r}; it can be 'auto', 'cpu' or 'xla'.")
    check_choice(config, "network.trainable", TRAINABLE)
    check_choice(config, "network.padding", PADDINGS)
    if network.embedding:
        check_at_least(config, 1, "network.embedding")
        check_whole(config, "network.embedding")
    check_at_least(config, 0, "network.input_mean", "network.input_std")
    for name in ("network.input_mean", "network.input_std"):
        values = get(config, name)
        if len(values) not in (1, config.data.channels):
            raise UserError(
                f"config.{name} is {tuple(values)}; it must hold one number, or one for each of the "
                f"{config.data.channels} channels."
            )
    if 0 in network.input_std:
        raise UserError(f"config.network.input_std is {tuple(network.input_std)}; it must be above 0.")
    if network.weights:
        _check_weights(config)
    smallest = _backbone(config).smallest_image()
    if config.data.image_size < smallest:
        if network.name != "conv4":
            raise UserError(
                f"config.data.image_size is {config.data.image_size}, but {network.name} needs {smallest}."
            )
        raise UserError(
            f"config.data.image_size is {config.data.image_size}, but {network.blocks} blocks halve it "
            f"{network.blocks} times: take {smallest} or more, or fewer blocks."
        )


def _check_weights(config: ConfigDict) -> None:
    network = config.network
    if network.name == "conv4":
        raise UserError(
            "config.network.weights is given, but conv4 has no published layout of weights: "
            "give config.network.init_from, or the network that the weights are of."
        )
    if network.init_from:
        raise UserError("config.network.weights and config.network.init_from are both given: give one.")
    check_suffix(Path(network.weights))
