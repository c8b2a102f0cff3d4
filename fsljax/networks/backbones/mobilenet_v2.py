"""MobileNetV2 (Sandler et al., 2018, https://arxiv.org/abs/1801.04381), width 1.0."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsljax.config import Network
from fsljax.networks.layers import Conv, Norm, Settings, Statistics, into_last_stage, of_stages, settings_of

# Expansion, filters, blocks, stride of the first block: the paper's table 2.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_FILTERS_BEFORE, _FILTERS_AFTER = 32, 1280


def build(network: Network) -> MobileNetV2:
    """The backbone that the `network` section of a config describes."""
    return MobileNetV2(settings_of(network))


def layouts() -> dict[str, dict[str, str]]:
    """Other published names of its modules: `{layout: {ours: theirs}}`."""
    theirs = {"features.0.0": "conv_stem", "features.0.1": "bn1"}
    separable = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
    inverted = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2": "conv_pwl", "3": "bn3"}
    number = 1
    for stage, (expansion, _, blocks, _) in enumerate(_STAGES):
        for block in range(blocks):
            for ours, name in (inverted if expansion > 1 else separable).items():
                theirs[f"features.{number}.conv.{ours}"] = f"blocks.{stage}.{block}.{name}"
            number += 1
    return {"timm": theirs | {f"features.{number}.0": "conv_head", f"features.{number}.1": "bn2"}}


class MobileNetV2(nn.Module):
    """MobileNetV2 up to global average pooling; parameters are named as in torchvision.

    Attributes:
      settings: padding, momentum, kernels, and which part is trained.
    """

    settings: Settings = Settings()

    def __call__(self, images: jax.Array, *, running_average: bool) -> jax.Array:
        """Embeds images.

        Args:
          images: `[..., n, height, width, channel]`, floats; leading axes are episodes.
          running_average: normalise by the running averages; otherwise by each episode's own statistics
            (which updates the averages if "batch_stats" is mutable).

        Returns:
          features `[..., n, 1280]`.
        """
        features = jnp.mean(self.stages(images, running_average=running_average)[-1], axis=(1, 2))
        return features.reshape(*images.shape[:-3], -1)

    @nn.compact
    def stages(self, images: jax.Array, *, running_average: bool) -> list[jax.Array]:
        """The last features `[n, height, width, channel]` at each of `stage_strides`."""
        x = images.reshape(-1, *images.shape[-3:])
        before, last = of_stages(images.shape[:-3], self.settings, running_average=running_average)
        return _Features(self.settings, name="features")(x, before, last)

    def stage_strides(self) -> tuple[int, ...]:
        """Stride of each of `stages` in pixels of the image."""
        return (4, 8, 16, 32)

    def last_stage(self) -> tuple[str, ...]:
        """Names of the modules trained with `trainable="last_stage"`."""
        blocks = sum(blocks for _, _, blocks, _ in _STAGES)
        return (f"features.{blocks}", f"features.{blocks + 1}")

    def smallest_image(self) -> int:
        """Minimum height and width of images in pixels."""
        return 1


class _Features(nn.Module):
    settings: Settings

    @nn.compact
    def __call__(self, x: jax.Array, before: Statistics, last: Statistics) -> list[jax.Array]:
        x = _ConvNormReLU6(self.settings, _FILTERS_BEFORE, stride=2, name="0")(x, before)
        number, stages = 1, []
        for stage in _STAGES:
            expansion, filters, blocks, first_stride = stage
            if stage == _STAGES[-1]:
                x, before = into_last_stage(x, self.settings), last
            for block in range(blocks):
                stride = 1 if block else first_stride
                if stride == 2:
                    stages.append(x)
                bottleneck = _InvertedBottleneck(self.settings, filters, expansion, stride, name=str(number))
                x = bottleneck(x, before)
                number += 1
        x = _ConvNormReLU6(self.settings, _FILTERS_AFTER, (1, 1), name=str(number))(x, last)
        return [*stages[1:], x]  # the first has stride 2


class _InvertedBottleneck(nn.Module):
    settings: Settings
    filters: int
    expansion: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        layers = _BottleneckLayers(self.settings, self.filters, self.expansion, self.stride, name="conv")
        y = layers(x, statistics)
        return x + y if x.shape == y.shape else y


class _BottleneckLayers(nn.Module):
    settings: Settings
    filters: int
    expansion: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        settings, wide, number = self.settings, x.shape[-1] * self.expansion, 0
        if self.expansion > 1:
            x = _ConvNormReLU6(settings, wide, (1, 1), name="0")(x, statistics)
            number = 1
        x = _ConvNormReLU6(settings, wide, (3, 3), self.stride, depthwise=True, name=str(number))(
            x, statistics
        )
        x = Conv(settings, self.filters, (1, 1), name=str(number + 1))(x)
        return Norm(settings, name=str(number + 2))(x, statistics)


class _ConvNormReLU6(nn.Module):
    settings: Settings
    filters: int
    window: tuple[int, int] = (3, 3)
    stride: int = 1
    depthwise: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        x = Conv(self.settings, self.filters, self.window, self.stride, self.depthwise, name="0")(x)
        return nn.relu6(Norm(self.settings, name="1")(x, statistics))
