"""Residual networks (He et al., 2016, https://arxiv.org/abs/1512.03385), version 1."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsljax.networks.layers import Conv, Norm, Settings, Statistics, into_last_stage, max_pool, of_stages


class ResNet(nn.Module):
    """A residual network up to global average pooling; parameters are named as in torchvision.

    In bottlenecks the 3×3 convolution is strided, as in torchvision.

    Attributes:
      blocks: number of blocks of each stage.
      filters: filters of the first stage, doubled in each further stage.
      bottleneck: blocks of 1×1, 3×3 and 1×1 convolutions with four times the filters at the end; otherwise of
        two 3×3 convolutions.
      small_images: start with a 3×3 convolution; otherwise with a 7×7 convolution of stride 2 and 3×3 max
        pooling.
      settings: padding, momentum, kernels, and which part is trained.
    """

    blocks: tuple[int, ...] = (2, 2, 2, 2)
    filters: int = 64
    bottleneck: bool = False
    small_images: bool = False
    settings: Settings = Settings()

    def __call__(self, images: jax.Array, *, running_average: bool) -> jax.Array:
        """Embeds images.

        Args:
          images: `[..., n, height, width, channel]`, floats; leading axes are episodes.
          running_average: normalise by the running averages; otherwise by each episode's own statistics
            (which updates the averages if "batch_stats" is mutable).

        Returns:
          features `[..., n, dim]`, dim the filters of the last stage.
        """
        features = jnp.mean(self.stages(images, running_average=running_average)[-1], axis=(1, 2))
        return features.reshape(*images.shape[:-3], -1)

    @nn.compact
    def stages(self, images: jax.Array, *, running_average: bool) -> list[jax.Array]:
        """Output features `[n, height, width, channel]` of each stage, at `stage_strides`."""
        settings = self.settings
        x = images.reshape(-1, *images.shape[-3:])
        before, last = of_stages(images.shape[:-3], settings, running_average=running_average)
        window, stride = ((3, 3), 1) if self.small_images else ((7, 7), 2)
        x = Conv(settings, self.filters, window, stride, name="conv1")(x)
        x = nn.relu(Norm(settings, name="bn1")(x, before))
        if not self.small_images:
            x = max_pool(x, settings)
        stages = []
        for stage, blocks in enumerate(self.blocks):
            if stage == len(self.blocks) - 1:
                x, before = into_last_stage(x, settings), last
            layer = _Stage(
                settings, blocks, self.filters * 2**stage, self.bottleneck,
                stride=2 if stage else 1, name=f"layer{stage + 1}",
            )  # fmt: skip
            x = layer(x, before)
            stages.append(x)
        return stages

    def stage_strides(self) -> tuple[int, ...]:
        """Stride of each of `stages` in pixels of the image."""
        first = 1 if self.small_images else 4
        return tuple(first * 2**stage for stage in range(len(self.blocks)))

    def last_stage(self) -> tuple[str, ...]:
        """Names of the modules trained with `trainable="last_stage"`."""
        return (f"layer{len(self.blocks)}",)

    def smallest_image(self) -> int:
        """Minimum height and width of images in pixels."""
        return 1


def residual_stage(settings: Settings, blocks: int, filters: int, *, stride: int, name: str) -> _Stage:
    """Blocks of two 3×3 convolutions, the first of them with the stride."""
    return _Stage(settings, blocks, filters, bottleneck=False, stride=stride, name=name)


class _Stage(nn.Module):
    settings: Settings
    blocks: int
    filters: int
    bottleneck: bool
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        kind = _Bottleneck if self.bottleneck else _Block
        for block in range(self.blocks):
            stride = 1 if block else self.stride
            x = kind(self.settings, self.filters, stride, name=str(block))(x, statistics)
        return x


class _Block(nn.Module):
    settings: Settings
    filters: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        settings, filters = self.settings, self.filters
        y = Conv(settings, filters, stride=self.stride, name="conv1")(x)
        y = nn.relu(Norm(settings, name="bn1")(y, statistics))
        y = Conv(settings, filters, name="conv2")(y)
        y = Norm(settings, name="bn2")(y, statistics)
        if x.shape != y.shape:
            x = _Projection(settings, filters, self.stride, name="downsample")(x, statistics)
        return nn.relu(x + y)


class _Bottleneck(nn.Module):
    settings: Settings
    filters: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        settings, filters = self.settings, self.filters
        y = Conv(settings, filters, (1, 1), name="conv1")(x)
        y = nn.relu(Norm(settings, name="bn1")(y, statistics))
        y = Conv(settings, filters, stride=self.stride, name="conv2")(y)
        y = nn.relu(Norm(settings, name="bn2")(y, statistics))
        y = Conv(settings, 4 * filters, (1, 1), name="conv3")(y)
        y = Norm(settings, name="bn3")(y, statistics)
        if x.shape != y.shape:
            x = _Projection(settings, 4 * filters, self.stride, name="downsample")(x, statistics)
        return nn.relu(x + y)


class _Projection(nn.Module):
    settings: Settings
    filters: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        x = Conv(self.settings, self.filters, (1, 1), self.stride, name="0")(x)
        return Norm(self.settings, name="1")(x, statistics)
