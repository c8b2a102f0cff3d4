"""MobileNetV3-Large (Howard et al., 2019, https://arxiv.org/abs/1905.02244), width 1.0."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsljax.config import Network
from fsljax.networks.layers import Conv, Norm, Settings, Statistics, into_last_stage, of_stages, settings_of


class _Row(NamedTuple):
    """A block, as a row of the paper's table 1 describes it."""

    window: int
    wide: int  # filters after expansion
    filters: int
    squeezed: bool  # squeeze-and-excitation
    hard: bool  # hard swish
    stride: int


_BLOCKS = tuple(_Row(*row) for row in (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
))  # fmt: skip
_FILTERS_BEFORE, _FILTERS_AFTER = 16, 960
_LAST_STAGE = 12  # blocks before it


def build(network: Network) -> MobileNetV3Large:
    """The backbone that the `network` section of a config describes."""
    return MobileNetV3Large(settings_of(network))


class MobileNetV3Large(nn.Module):
    """MobileNetV3-Large up to global average pooling; parameters are named as in torchvision.

    Batch norm adds `settings.epsilon` to variances: 1e-3 in torchvision's classifier, 1e-5 in its detector.

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
          features `[..., n, 960]`.
        """
        features = jnp.mean(self.stages(images, running_average=running_average)[-1], axis=(1, 2))
        return features.reshape(*images.shape[:-3], -1)

    @nn.compact
    def stages(self, images: jax.Array, *, running_average: bool) -> list[jax.Array]:
        """The features torchvision's detectors use: after the first block of the last stride, and the last.

        Both are `[n, height, width, channel]` at `stage_strides`.
        """
        x = images.reshape(-1, *images.shape[-3:])
        before, last = of_stages(images.shape[:-3], self.settings, running_average=running_average)
        return _Features(self.settings, name="features")(x, before, last)

    def stage_strides(self) -> tuple[int, ...]:
        """Stride of each of `stages` in pixels of the image."""
        return (32, 32)

    def last_stage(self) -> tuple[str, ...]:
        """Names of the modules trained with `trainable="last_stage"`."""
        return tuple(f"features.{number}" for number in range(_LAST_STAGE + 1, len(_BLOCKS) + 2))

    def smallest_image(self) -> int:
        """Minimum height and width of images in pixels."""
        return 1


class _Features(nn.Module):
    settings: Settings

    @nn.compact
    def __call__(self, x: jax.Array, before: Statistics, last: Statistics) -> list[jax.Array]:
        settings, stages = self.settings, []
        x = nn.hard_swish(_ConvNorm(settings, _FILTERS_BEFORE, stride=2, name="0")(x, before))
        for number, row in enumerate(_BLOCKS):
            if number == _LAST_STAGE:
                x, before = into_last_stage(x, settings), last
            x = _Block(settings, row, name=str(number + 1))(x, before)
            if number == _LAST_STAGE:
                stages.append(x)
        x = _ConvNorm(settings, _FILTERS_AFTER, 1, name=str(len(_BLOCKS) + 1))(x, last)
        return [*stages, nn.hard_swish(x)]


class _Block(nn.Module):
    settings: Settings
    row: _Row

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        y = _Layers(self.settings, self.row, name="block")(x, statistics)
        return x + y if x.shape == y.shape else y


class _Layers(nn.Module):
    settings: Settings
    row: _Row

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        settings, row, number = self.settings, self.row, 0
        activation = nn.hard_swish if row.hard else nn.relu
        if row.wide != x.shape[-1]:
            x = activation(_ConvNorm(settings, row.wide, 1, name="0")(x, statistics))
            number = 1
        conv = _ConvNorm(settings, row.wide, row.window, row.stride, depthwise=True, name=str(number))
        x = activation(conv(x, statistics))
        if row.squeezed:
            number += 1
            x = _SqueezeExcitation(name=str(number))(x)
        return _ConvNorm(settings, row.filters, 1, name=str(number + 1))(x, statistics)


class _ConvNorm(nn.Module):
    settings: Settings
    filters: int
    window: int = 3
    stride: int = 1
    depthwise: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        window = (self.window, self.window)
        x = Conv(self.settings, self.filters, window, self.stride, self.depthwise, name="0")(x)
        return Norm(self.settings, name="1")(x, statistics)


class _SqueezeExcitation(nn.Module):
    """Channels weighted by what the whole image says (Hu et al., 2018, https://arxiv.org/abs/1709.01507)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        squeezed = _divisible_by_8(channels / 4)
        weights = nn.relu(_Pointwise(squeezed, name="fc1")(jnp.mean(x, axis=(1, 2))))
        return x * nn.hard_sigmoid(_Pointwise(channels, name="fc2")(weights))[:, None, None]


class _Pointwise(nn.Module):
    """A dense layer that is published as a 1×1 convolution."""

    filters: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.he_normal(), (1, 1, x.shape[-1], self.filters))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.filters,))
        return x @ jnp.asarray(kernel[0, 0], x.dtype) + jnp.asarray(bias, x.dtype)


def _divisible_by_8(channels: float) -> int:
    """The nearest multiple of 8 that is not below nine tenths."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
