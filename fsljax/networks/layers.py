"""Building blocks of the larger networks: convolution, batch norm over episodes, pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsljax.config import Network
from fsljax.networks.kernels import convolution, depthwise
from fsljax.networks.kernels.convolution import Padding
from fsljax.networks.kernels.moments import variance_about
from fsljax.parallel import shares

EPSILON = 1e-5
"""Added to the variance by batch norm."""

# Measured on the CPU backend: where up to this many pixels a side come out, patches are faster than XLA's
# convolution; from this many channels, at this many places a side, filter gradients are faster as products of
# matrices.
_PATCHES_UP_TO = 2
_WIDE_FROM, _LARGE_FROM = 256, 20


@dataclass(frozen=True)
class Settings:
    """Settings shared by all layers of a network.

    Attributes:
      padding: padding of 3×3 and larger windows. "symmetric": half a window on each side, as in PyTorch;
        "same": as in TensorFlow, which with stride 2 puts the extra row and column at the bottom and on the
        right.
      momentum: decay of batch norm's running averages.
      kernels: "cpu" or "xla"; "auto" uses "cpu" on the CPU backend. Results are equal up to rounding.
      trainable: "all", "last_stage" or "head". Frozen parts are normalised by their running averages, which
        stay fixed.
      epsilon: added to the variances of batch norm, unless the network defines its own.
    """

    padding: str = "symmetric"
    momentum: float = 0.99
    kernels: str = "auto"
    trainable: str = "all"
    epsilon: float = EPSILON

    def on_cpu(self) -> bool:
        return self.kernels == "cpu" or (self.kernels == "auto" and jax.default_backend() == "cpu")


def settings_of(network: Network) -> Settings:
    """The settings of all layers from the `network` section of a config."""
    return Settings(network.padding, network.momentum, network.kernels, network.trainable, network.epsilon)


class Statistics(NamedTuple):
    """By what batch norm normalises.

    Attributes:
      groups: how many equal parts of the batch (episodes) have statistics of their own.
      running_average: by the running averages instead.
    """

    groups: int
    running_average: bool


def of_stages(
    leading: Sequence[int], settings: Settings, *, running_average: bool
) -> tuple[Statistics, Statistics]:
    """The statistics of the stages before the last one, and of the last.

    Args:
      leading: axes of the images before height; all but the last are episodes.
      settings: of the network.
      running_average: what the caller asks for.
    """
    groups = math.prod(leading[:-1])
    before = running_average or settings.trainable != "all"
    last = running_average or settings.trainable == "head"
    return Statistics(groups, before), Statistics(groups, last)


def into_last_stage(x: jax.Array, settings: Settings) -> jax.Array:
    """Ends the backward pass where the stages before the last are not trained."""
    return jax.lax.stop_gradient(x) if settings.trainable == "last_stage" else x


class Conv(nn.Module):
    """Convolution without bias.

    Attributes:
      filters: as many as channels come in, if `depthwise`.
      window: height and width of the filter, odd.
      stride: in pixels, down and across.
      depthwise: each channel has a filter of its own.
      valid: no padding.
      start: what the first filter is drawn by.
    """

    settings: Settings
    filters: int
    window: tuple[int, int] = (3, 3)
    stride: int = 1
    depthwise: bool = False
    valid: bool = False
    start: nn.initializers.Initializer = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[n, height, width, channel]` to `[n, out_height, out_width, filters]`."""
        inputs = 1 if self.depthwise else x.shape[-1]
        kernel = self.param("kernel", self.start, (*self.window, inputs, self.filters))
        kernel = jnp.asarray(kernel, x.dtype)
        kind = "valid" if self.valid else self.settings.padding
        padding = pad(x.shape[1:3], self.window, self.stride, kind)
        if self.settings.on_cpu():
            return self._on_cpu(x, kernel, padding)
        return self._by_xla(x, kernel, padding)

    def _by_xla(self, x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
        groups = x.shape[-1] if self.depthwise else 1
        return convolution.xla_conv(x, kernel, self.stride, padding, groups)

    def _on_cpu(self, x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
        if self.depthwise:
            return depthwise.depthwise_conv(x, kernel, self.stride, padding)
        if self.window == (1, 1):
            return convolution.pointwise_conv(x, kernel, self.stride)
        if min(x.shape[1:3]) <= _PATCHES_UP_TO * self.stride:
            return convolution.patch_conv(x, kernel, self.stride, padding)
        if (self.window, self.stride, padding) == ((3, 3), 1, ((1, 1), (1, 1))):
            if min(kernel.shape[2:]) >= _WIDE_FROM and min(x.shape[1:3]) >= _LARGE_FROM:
                return convolution.wide_conv3x3(x, kernel)
            return convolution.conv3x3(x, kernel)
        return convolution.conv(x, kernel, self.stride, padding)


class Norm(nn.Module):
    """Batch norm (Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167), each episode by itself.

    The running averages move by the mean over episodes.

    Attributes:
      settings: of the network.
      epsilon: added to variances; None: as the settings have it.
    """

    settings: Settings
    epsilon: float | None = None

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        """Normalises `[groups · n, height, width, channel]` over all axes but the last."""
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones_init(), shape)
        shift = self.param("shift", nn.initializers.zeros_init(), shape)
        average_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        average_variance = self.variable("batch_stats", "variance", jnp.ones, shape)
        if statistics.running_average:
            mean, variance = average_mean.value[None], average_variance.value[None]
        else:
            values = x.reshape(statistics.groups, -1, *shape).astype(jnp.promote_types(x.dtype, jnp.float32))
            mean = jnp.mean(values, axis=1)
            mean, variance = shares.moments(mean, variance_about(values, mean))
            if not self.is_initializing() and self.is_mutable_collection("batch_stats"):
                keep = self.settings.momentum
                for average, now in ((average_mean, mean), (average_variance, variance)):
                    average.value = keep * average.value + (1 - keep) * jnp.mean(now, axis=0)
        epsilon = self.settings.epsilon if self.epsilon is None else self.epsilon
        slope = scale * jax.lax.rsqrt(variance + epsilon)
        by_group = x.reshape(len(mean), -1, *shape)
        mean, slope = (jnp.asarray(moment[:, None], x.dtype) for moment in (mean, slope))
        return ((by_group - mean) * slope + jnp.asarray(shift, x.dtype)).reshape(x.shape)


def max_pool(
    x: jax.Array, settings: Settings, *, window: int = 3, stride: int = 2, valid: bool = False
) -> jax.Array:
    """Max pooling of `[n, height, width, channel]`; padding is never the maximum."""
    padding = pad(x.shape[1:3], (window, window), stride, "valid" if valid else settings.padding)
    if settings.on_cpu():
        return convolution.overlapping_max_pool(x, window, stride, padding)
    return nn.max_pool(x, (window, window), (stride, stride), padding)


def average_pool3x3(x: jax.Array, settings: Settings) -> jax.Array:
    """3×3 means of `[n, height, width, channel]`, stride 1.

    Beyond the border are zeros with "symmetric" padding, nothing with "same": as PyTorch and TensorFlow
    count.
    """
    ones = jnp.ones((3, 3, 1, x.shape[-1]), x.dtype)
    padding = ((1, 1), (1, 1))

    def sums(values: jax.Array) -> jax.Array:
        return depthwise.depthwise_conv(values, ones, 1, padding)

    return sums(x) / (9 if settings.padding == "symmetric" else sums(jnp.ones_like(x[:1])))


def pad(size: Sequence[int], window: tuple[int, int], stride: int, kind: str) -> Padding:
    """Rows and columns to add before and after, for "symmetric", "same" or "valid"."""
    if kind == "valid":
        return ((0, 0), (0, 0))
    if kind == "symmetric":
        rows, columns = window[0] // 2, window[1] // 2
        return ((rows, rows), (columns, columns))
    added = []
    for length, extent in zip(size, window, strict=True):
        total = max((math.ceil(length / stride) - 1) * stride + extent - length, 0)
        added.append((total // 2, total - total // 2))
    return (added[0], added[1])
