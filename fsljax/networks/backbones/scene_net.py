"""A small residual network for detection in greyscale scenes of about 128 pixels on a CPU."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsljax.config import Network
from fsljax.networks.layers import Conv, Norm, Settings, Statistics, into_last_stage, of_stages, settings_of
from fsljax.networks.resnet import residual_stage


def build(network: Network) -> SceneNet:
    """The backbone that the `network` section of a config describes."""
    return SceneNet(settings=settings_of(network))


class SceneNet(nn.Module):
    """Two strided convolutions, then three stages of residual blocks at strides 4, 8 and 16.

    Attributes:
      blocks: number of blocks of each stage.
      filters: filters of each stage; the first convolution has half as many as the first stage.
      settings: padding, momentum, kernels, and which part is trained.
    """

    blocks: tuple[int, ...] = (1, 1, 1)
    filters: tuple[int, ...] = (64, 128, 256)
    settings: Settings = Settings()

    def __call__(self, images: jax.Array, *, running_average: bool) -> jax.Array:
        """Embeds images `[..., n, height, width, channel]` as `[..., n, 256]`; see `ResNet`."""
        features = jnp.mean(self.stages(images, running_average=running_average)[-1], axis=(1, 2))
        return features.reshape(*images.shape[:-3], -1)

    @nn.compact
    def stages(self, images: jax.Array, *, running_average: bool) -> list[jax.Array]:
        """Output features `[n, height, width, channel]` of each stage, at `stage_strides`."""
        settings = self.settings
        x = images.reshape(-1, *images.shape[-3:])
        before, last = of_stages(images.shape[:-3], settings, running_average=running_average)
        for number, filters in enumerate((self.filters[0] // 2, self.filters[0])):
            layer = _ConvNormReLU(settings, filters, name=f"stem{number}")
            x = layer(x, before)
        stages = []
        for stage, (blocks, filters) in enumerate(zip(self.blocks, self.filters, strict=True)):
            if stage == len(self.blocks) - 1:
                x, before = into_last_stage(x, settings), last
            residual = residual_stage(
                settings, blocks, filters, stride=2 if stage else 1, name=f"layer{stage + 1}"
            )
            x = residual(x, before)
            stages.append(x)
        return stages

    def stage_strides(self) -> tuple[int, ...]:
        """Stride of each of `stages` in pixels of the image."""
        return tuple(4 * 2**stage for stage in range(len(self.blocks)))

    def last_stage(self) -> tuple[str, ...]:
        """Names of the modules trained with `trainable="last_stage"`."""
        return (f"layer{len(self.blocks)}",)

    def smallest_image(self) -> int:
        """Minimum height and width of images in pixels."""
        return 1


class _ConvNormReLU(nn.Module):
    settings: Settings
    filters: int

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        x = Conv(self.settings, self.filters, stride=2, name="conv")(x)
        return nn.relu(Norm(self.settings, name="norm")(x, statistics))
