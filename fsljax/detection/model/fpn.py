"""Feature pyramid (Lin et al., 2017, https://arxiv.org/abs/1612.03144)."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsljax.networks.layers import Conv, Norm, Settings, Statistics

_FROZEN = Statistics(groups=1, running_average=True)


class BiasedConv(nn.Module):
    """Convolution of stride 1 with a bias, its size kept.

    Attributes:
      filters: channels that come out.
      window: rows and columns of the filter, odd.
      settings: the kernels.
      scale: standard deviation of the first filters; 0: He's.
    """

    filters: int
    window: int = 3
    settings: Settings = Settings()
    scale: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[n, height, width, channel]` to `[n, height, width, filters]`."""
        bias = self.param("bias", nn.initializers.zeros_init(), (self.filters,))
        start = nn.initializers.normal(self.scale) if self.scale else nn.initializers.he_normal()
        conv = Conv(self.settings, self.filters, (self.window, self.window), start=start, name="conv")
        return conv(x) + jnp.asarray(bias, x.dtype)


class NormedConv(nn.Module):
    """Convolution of stride 1 with batch norm by averages that stay as they are, its size kept.

    Attributes:
      filters: channels that come out.
      window: rows and columns of the filter, odd.
      settings: the kernels.
    """

    filters: int
    window: int = 3
    settings: Settings = Settings()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[n, height, width, channel]` to `[n, height, width, filters]`."""
        x = Conv(self.settings, self.filters, (self.window, self.window), name="conv")(x)
        return Norm(self.settings, name="norm")(x, _FROZEN)


class FeaturePyramid(nn.Module):
    """Levels of equal channels, each from its stage and from the coarser level above it.

    Attributes:
      channels: of every level.
      extra: further levels above the last, each of twice the stride before (for proposals of large boxes).
      settings: the kernels.
      norm: batch norm after each convolution instead of a bias.
    """

    channels: int
    extra: int = 0
    settings: Settings = Settings()
    norm: bool = False

    @nn.compact
    def __call__(self, stages: Sequence[jax.Array]) -> list[jax.Array]:
        """Levels `[n, height, width, channels]` of stages `[n, height, width, channel]`, finest first.

        Raises:
          ValueError: if a stage has neither half the height and width of the one before nor the same.
        """
        settings, levels = self.settings, []
        conv = NormedConv if self.norm else BiasedConv
        above = None
        for number in reversed(range(len(stages))):
            stage = stages[number]
            side = conv(self.channels, 1, settings, name=f"lateral{number}")(stage)
            if above is not None and above.shape == side.shape:
                side = side + above
            elif above is not None:
                if side.shape[1:3] != tuple(2 * length for length in above.shape[1:3]):
                    raise ValueError(
                        f"Stage {number} is {list(stage.shape[1:3])} and the next {list(above.shape[1:3])}: "
                        "each must be half the size of the one before; use sides that the last stride "
                        "divides."
                    )
                side = side + doubled(above)
            above = side
            levels.append(conv(self.channels, 3, settings, name=f"output{number}")(above))
        levels.reverse()
        for _ in range(self.extra):
            levels.append(levels[-1][:, ::2, ::2])
        return levels


def doubled(x: jax.Array) -> jax.Array:
    """`[n, height, width, channel]` to twice the height and width, each value repeated."""
    n, height, width, channels = x.shape
    repeated = jnp.broadcast_to(x[:, :, None, :, None], (n, height, 2, width, 2, channels))
    return repeated.reshape(n, 2 * height, 2 * width, channels)
