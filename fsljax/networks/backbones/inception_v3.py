"""Inception-v3 (Szegedy et al., 2016, https://arxiv.org/abs/1512.00567), without auxiliary classifier."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsljax.config import Network
from fsljax.networks.layers import (
    Conv,
    Norm,
    Settings,
    Statistics,
    average_pool3x3,
    into_last_stage,
    max_pool,
    of_stages,
    settings_of,
)

_EPSILON = 1e-3


def build(network: Network) -> InceptionV3:
    """The backbone that the `network` section of a config describes."""
    return InceptionV3(settings_of(network))


class InceptionV3(nn.Module):
    """Inception-v3 up to global average pooling; parameters are named as in torchvision.

    The published network expects 299×299 pixels.

    Attributes:
      settings: padding, momentum, kernels, and which part is trained.
    """

    settings: Settings = Settings()

    @nn.compact
    def __call__(self, images: jax.Array, *, running_average: bool) -> jax.Array:
        """Embeds images.

        Args:
          images: `[..., n, height, width, channel]`, floats; leading axes are episodes.
          running_average: normalise by the running averages; otherwise by each episode's own statistics
            (which updates the averages if "batch_stats" is mutable).

        Returns:
          features `[..., n, 2048]`.

        Raises:
          ValueError: if the images are too small for the network.
        """
        *leading, height, width, _ = images.shape
        if min(height, width) < self.smallest_image():
            raise ValueError(f"Images are {height}×{width}; Inception-v3 needs at least 75×75.")
        settings = self.settings
        x = images.reshape(-1, *images.shape[-3:])
        before, last = of_stages(leading, settings, running_average=running_average)
        x = _Layer(settings, 32, (3, 3), 2, valid=True, name="Conv2d_1a_3x3")(x, before)
        x = _Layer(settings, 32, (3, 3), valid=True, name="Conv2d_2a_3x3")(x, before)
        x = _Layer(settings, 64, (3, 3), name="Conv2d_2b_3x3")(x, before)
        x = max_pool(x, settings, valid=True)
        x = _Layer(settings, 80, (1, 1), name="Conv2d_3b_1x1")(x, before)
        x = _Layer(settings, 192, (3, 3), valid=True, name="Conv2d_4a_3x3")(x, before)
        x = max_pool(x, settings, valid=True)
        for letter, pooled in (("b", 32), ("c", 64), ("d", 64)):
            x = _Mixed5(settings, pooled, name=f"Mixed_5{letter}")(x, before)
        x = _Mixed6a(settings, name="Mixed_6a")(x, before)
        for letter, inner in (("b", 128), ("c", 160), ("d", 160), ("e", 192)):
            x = _Mixed6(settings, inner, name=f"Mixed_6{letter}")(x, before)
        x = into_last_stage(x, settings)
        x = _Mixed7a(settings, name="Mixed_7a")(x, last)
        for letter in "bc":
            x = _Mixed7(settings, name=f"Mixed_7{letter}")(x, last)
        return jnp.mean(x, axis=(1, 2)).reshape(*leading, -1)

    def last_stage(self) -> tuple[str, ...]:
        """Names of the modules trained with `trainable="last_stage"`."""
        return ("Mixed_7a", "Mixed_7b", "Mixed_7c")

    def smallest_image(self) -> int:
        """Minimum height and width of images in pixels."""
        return 75


class _Layer(nn.Module):
    settings: Settings
    filters: int
    window: tuple[int, int]
    stride: int = 1
    valid: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        x = Conv(self.settings, self.filters, self.window, self.stride, valid=self.valid, name="conv")(x)
        return nn.relu(Norm(self.settings, _EPSILON, name="bn")(x, statistics))


def _chain(
    x: jax.Array,
    statistics: Statistics,
    settings: Settings,
    branch: str,
    *layers: tuple[int, tuple[int, int]],
    last_stride: int = 1,
) -> jax.Array:
    """Layers `branch_1`, `branch_2`, … of (filters, window); a last stride of 2 goes without padding."""
    for number, (filters, window) in enumerate(layers, start=1):
        stride = last_stride if number == len(layers) else 1
        layer = _Layer(settings, filters, window, stride, valid=stride > 1, name=f"{branch}_{number}")
        x = layer(x, statistics)
    return x


class _Mixed5(nn.Module):
    settings: Settings
    pooled: int

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        s = self.settings
        direct = _Layer(s, 64, (1, 1), name="branch1x1")(x, statistics)
        wide = _chain(x, statistics, s, "branch5x5", (48, (1, 1)), (64, (5, 5)))
        double = _chain(x, statistics, s, "branch3x3dbl", (64, (1, 1)), (96, (3, 3)), (96, (3, 3)))
        pooled = _Layer(s, self.pooled, (1, 1), name="branch_pool")(average_pool3x3(x, s), statistics)
        return jnp.concatenate([direct, wide, double, pooled], axis=-1)


class _Mixed6a(nn.Module):
    settings: Settings

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        s = self.settings
        direct = _Layer(s, 384, (3, 3), 2, valid=True, name="branch3x3")(x, statistics)
        double = _chain(
            x, statistics, s, "branch3x3dbl", (64, (1, 1)), (96, (3, 3)), (96, (3, 3)), last_stride=2
        )
        return jnp.concatenate([direct, double, max_pool(x, s, valid=True)], axis=-1)


class _Mixed6(nn.Module):
    settings: Settings
    inner: int

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        s, inner, row, column = self.settings, self.inner, (1, 7), (7, 1)
        direct = _Layer(s, 192, (1, 1), name="branch1x1")(x, statistics)
        once = _chain(x, statistics, s, "branch7x7", (inner, (1, 1)), (inner, row), (192, column))
        twice = _chain(
            x, statistics, s, "branch7x7dbl",
            (inner, (1, 1)), (inner, column), (inner, row), (inner, column), (192, row),
        )  # fmt: skip
        pooled = _Layer(s, 192, (1, 1), name="branch_pool")(average_pool3x3(x, s), statistics)
        return jnp.concatenate([direct, once, twice, pooled], axis=-1)


class _Mixed7a(nn.Module):
    settings: Settings

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        s = self.settings
        once = _chain(x, statistics, s, "branch3x3", (192, (1, 1)), (320, (3, 3)), last_stride=2)
        layers = (192, (1, 1)), (192, (1, 7)), (192, (7, 1)), (192, (3, 3))
        long = _chain(x, statistics, s, "branch7x7x3", *layers, last_stride=2)
        return jnp.concatenate([once, long, max_pool(x, s, valid=True)], axis=-1)


class _Mixed7(nn.Module):
    settings: Settings

    @nn.compact
    def __call__(self, x: jax.Array, statistics: Statistics) -> jax.Array:
        s = self.settings

        def both(y: jax.Array, branch: str) -> list[jax.Array]:
            return [
                _Layer(s, 384, window, name=branch + letter)(y, statistics)
                for letter, window in (("a", (1, 3)), ("b", (3, 1)))
            ]

        direct = _Layer(s, 320, (1, 1), name="branch1x1")(x, statistics)
        single = _Layer(s, 384, (1, 1), name="branch3x3_1")(x, statistics)
        double = _chain(x, statistics, s, "branch3x3dbl", (448, (1, 1)), (384, (3, 3)))
        pooled = _Layer(s, 192, (1, 1), name="branch_pool")(average_pool3x3(x, s), statistics)
        branches = [direct, *both(single, "branch3x3_2"), *both(double, "branch3x3dbl_3"), pooled]
        return jnp.concatenate(branches, axis=-1)
