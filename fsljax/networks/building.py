"""Builds a network from the `network` section of a config; its backbone is found by module name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import flax.linen as nn
import jax

from fsljax.config import Data, Network, modules
from fsljax.errors import UserError
from fsljax.networks.embedding import Embedding
from fsljax.networks.layers import Settings
from fsljax.networks.layouts import BACKBONES
from fsljax.networks.weights import check_suffix


class Described(Protocol):
    """The sections of a config that a network is built from."""

    @property
    def data(self) -> Data: ...

    @property
    def network(self) -> Network: ...


class StagedBackbone(Protocol):
    """A backbone that a detector can be built on; a Flax module."""

    @property
    def settings(self) -> Settings:
        """Settings of its layers, to be shared by layers on top."""

    def stages(self, images: jax.Array, *, running_average: bool) -> list[jax.Array]:
        """Output features `[n, height, width, channel]` of each stage, at `stage_strides`."""

    def stage_strides(self) -> tuple[int, ...]:
        """Stride of each of `stages` in pixels of the image."""

    def last_stage(self) -> tuple[str, ...]:
        """Names of the modules trained with `trainable="last_stage"`."""

    def smallest_image(self) -> int:
        """Minimum height and width of images in pixels."""


def build(config: Described) -> nn.Module:
    """Builds the network that `config.network` describes: a backbone, wrapped in an `Embedding` if needed.

    Raises:
      UserError: if there is no such backbone, fields contradict each other, or the images are too small for
        it.
    """
    network = config.network
    backbone: nn.Module = _checked_backbone(config)
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


def build_backbone(config: Described) -> StagedBackbone:
    """Builds the backbone that `config.network` describes for a detector; it must have `stages`.

    Raises:
      UserError: if it has no `stages`; or as in `build`.
    """
    network = config.network
    backbone: StagedBackbone = _checked_backbone(config)
    if not hasattr(backbone, "stages"):
        staged = [name for name in modules.names(BACKBONES) if hasattr(_built(name, Network()), "stages")]
        raise UserError(
            f"config.network.name is {network.name!r}, which has no stages to detect objects on; it can be "
            f"{', '.join(map(repr, staged))}."
        )
    return backbone


def check_head(config: Described) -> None:
    """Raises a UserError if only the head is to be trained, but there is none."""
    if config.network.trainable == "head" and not config.network.embedding:
        raise UserError(
            "config.network.trainable is 'head', but there is no head: give its layers, "
            "--config.network.embedding=256, or train more of the network."
        )


def last_stage(config: Described) -> tuple[str, ...]:
    """Names of the backbone's modules trained with `network.trainable="last_stage"`."""
    parts: tuple[str, ...] = _built(config.network.name, config.network).last_stage()
    return parts


def _built(name: str, network: Network) -> Any:
    module = modules.find(BACKBONES, name, field="network.name", needs=("build",))
    return module.build(network)


def _checked_backbone(config: Described) -> Any:
    network, image_size = config.network, config.data.image_size
    backbone = _built(network.name, network)
    for name, values in (("input_mean", network.input_mean), ("input_std", network.input_std)):
        if len(values) not in (1, config.data.channels):
            raise UserError(
                f"config.network.{name} is {tuple(values)}; it must hold one number, or one for each of the "
                f"{config.data.channels} channels."
            )
    if network.weights:
        _check_weights(network)
    smallest = backbone.smallest_image()
    if image_size < smallest:
        if network.name != "conv4":
            raise UserError(f"config.data.image_size is {image_size}, but {network.name} needs {smallest}.")
        raise UserError(
            f"config.data.image_size is {image_size}, but {network.blocks} blocks halve it {network.blocks} "
            f"times: use {smallest} or more, or fewer blocks."
        )
    return backbone


def _check_weights(network: Network) -> None:
    if network.name == "conv4":
        raise UserError(
            "config.network.weights is given, but conv4 has no published layout of weights: give "
            "config.network.init_from, or the network that the weights belong to."
        )
    if network.init_from:
        raise UserError("config.network.weights and config.network.init_from are both given: give only one.")
    if not network.weights_digest:  # else they were found
        check_suffix(Path(network.weights))
