"""EfficientNet-Lite0 (Tan and Le, 2019, https://arxiv.org/abs/1905.11946; Lite: no SE blocks, ReLU6)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsljax.config import Network
from fsljax.networks.layers import Conv, Norm, Settings, Statistics, into_last_stage, of_stages, settings_of

# Expansion, window, filters, blocks, stride of the first block.
_STAGES = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
_FILTERS_BEFORE, _FILTERS_AFTER = 32, 1280
_EPSILON = 1e-3


def build(network: Network) -> EfficientNetLite0:
    """The backbone that the `network` section of a config describes."""
    return EfficientNetLite0(settings_of(network))


def layouts() -> dict[str, dict[str, str]]:
    """Other published names of its modules: `{layout: {ours: theirs}}`."""
    theirs = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    separable = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    inverted = {
        "conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
        "conv_pwl": "_project_conv", "bn3": "_bn2",
    }  # fmt: skip
    number = 0
    for stage, (expansion, _, _, blocks, _) in enumerate(_STAGES):
        for block in range(blocks):
            for ours, name in (inverted if expansion > 1 else separable).items():
                theirs[f"blocks.{stage}.{block}.{ours}"] = f"_blocks.{number}.{name}"
            number += 1
    return {"efficientnet-lite-pytorch": theirs}


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 up to global average pooling; parameters are named as in timm.

    The published network expects 224×224 pixels.

    Attributes:
      settings: padding ("same" for weights from TensorFlow), momentum, kernels, and which part is trained.
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
        settings = self.settings
        x = images.reshape(-1, *images.shape[-3:])
        before, last = of_stages(images.shape[:-3], settings, running_average=running_average)
        x = Conv(settings, _FILTERS_BEFORE, stride=2, name="conv_stem")(x)
        x = nn.relu6(Norm(settings, _EPSILON, name="bn1")(x, before))
        *stages, x = _Blocks(settings, name="blocks")(x, before, last)
        x = Conv(settings, _FILTERS_AFTER, (1, 1), name="conv_head")(x)
        return [*stages, nn.relu6(Norm(settings, _EPSILON, name="bn2")(x, last))]

    def stage_strides(self) -> tuple[int, ...]:
        """Stride of each of `stages` in pixels of the image."""
        return (4, 8, 16, 32)

    def last_stage(self) -> tuple[str, ...]:
        """Names of the modules trained with `trainable="last_stage"`."""
        return (f"blocks.{len(_STAGES) - 1}", "conv_head", "bn2")

    def smallest_image(self) -> int:
        """Minimum height and width of images in pixels."""
        return 1


class _Blocks(nn.Module):
    settings: Settings

    @nn.compact
    def __call__(self, x: jax.Array, before: Statistics, last: Statistics) -> list[jax.Array]:
        ends = []
        for number, (expansion, window, filters, blocks, stride) in enumerate(_STAGES):
            if number == len(_STAGES) - 1:
                x, before = into_last_stage(x, self.settings), last
            if stride == 2:
                ends.append(x)
            stage = _Stage(self.settings, expansion, window, filters, blocks, stride, name=str(number))
            x = stage(x, before)
        return [*ends[1:], x]  # the first has stride 2


class _Stage(nn.Module):
    settings: Settings
    expansion: int
    window: int
    filters: int
    blocks: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        kind = _InvertedBottleneck if self.expansion > 1 else _Separable
        for block in range(self.blocks):
            stride = 1 if block else self.stride
            y = kind(self.settings, self.expansion, self.window, self.filters, stride, name=str(block))(
                x, statistics
            )
            x = x + y if x.shape == y.shape else y
        return x


class _Separable(nn.Module):
    settings: Settings
    expansion: int
    window: int
    filters: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        settings, window = self.settings, (self.window, self.window)
        x = Conv(settings, x.shape[-1], window, self.stride, depthwise=True, name="conv_dw")(x)
        x = nn.relu6(Norm(settings, _EPSILON, name="bn1")(x, statistics))
        x = Conv(settings, self.filters, (1, 1), name="conv_pw")(x)
        return Norm(settings, _EPSILON, name="bn2")(x, statistics)


class _InvertedBottleneck(nn.Module):
    settings: Settings
    expansion: int
    window: int
    filters: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        settings, window, wide = self.settings, (self.window, self.window), x.shape[-1] * self.expansion
        x = Conv(settings, wide, (1, 1), name="conv_pw")(x)
        x = nn.relu6(Norm(settings, _EPSILON, name="bn1")(x, statistics))
        x = Conv(settings, wide, window, self.stride, depthwise=True, name="conv_dw")(x)
        x = nn.relu6(Norm(settings, _EPSILON, name="bn2")(x, statistics))
        x = Conv(settings, self.filters, (1, 1), name="conv_pwl")(x)
        return Norm(settings, _EPSILON, name="bn3")(x, statistics)
