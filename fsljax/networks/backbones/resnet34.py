"""ResNet-34 (He et al., 2016, https://arxiv.org/abs/1512.03385), 512 features."""

from __future__ import annotations

from fsljax.config import Network
from fsljax.networks.layers import settings_of
from fsljax.networks.resnet import ResNet


def build(network: Network) -> ResNet:
    """The backbone that the `network` section of a config describes."""
    return ResNet((3, 4, 6, 3), settings=settings_of(network))
