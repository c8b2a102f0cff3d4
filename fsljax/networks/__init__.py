"""Embedding networks (Flax linen)."""

from __future__ import annotations

import flax.linen as nn
from ml_collections import ConfigDict

from fsljax.errors import UserError
from fsljax.networks.conv4 import Conv4

__all__ = ["Conv4", "build"]


def build(config: ConfigDict) -> nn.Module:
    """The network that `config.network` names.

    Raises:
      UserError: if there is none of that name, or the images are too small for it.
    """
    network = config.network
    if network.name != "conv4":
        raise UserError(f"config.network.name is {network.name!r}; it can be 'conv4'.")
    if network.kernels not in ("auto", "cpu", "xla"):
        raise UserError(f"config.network.kernels is {network.kernels!r}; it can be 'auto', 'cpu' or 'xla'.")
    conv4 = Conv4(network.filters, network.blocks, network.momentum, network.kernels)
    if config.data.image_size < conv4.smallest_image():
        raise UserError(
            f"config.data.image_size is {config.data.image_size}, but {network.blocks} blocks halve it "
            f"{network.blocks} times: take {conv4.smallest_image()} or more, or fewer blocks."
        )
    return conv4
