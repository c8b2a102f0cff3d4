"""ResNet-18 at half its width, for images of about 32 pixels: 2.8 M parameters, 256 features."""

from __future__ import annotations

from fsljax.config import Network
from fsljax.networks.layers import settings_of
from fsljax.networks.resnet import ResNet


def build(network: Network) -> ResNet:
    """The backbone that the `network` section of a config describes."""
    return ResNet((2, 2, 2, 2), filters=32, small_images=True, settings=settings_of(network))
