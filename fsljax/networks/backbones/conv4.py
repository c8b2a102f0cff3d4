"""Conv-4, the four-block embedding network of Matching and Prototypical Networks."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsljax.config import Network
from fsljax.networks.kernels import convolution, grey, pooling, winograd
from fsljax.parallel import shares

EPSILON = 1e-5


def build(network: Network) -> Conv4:
    """The backbone that the `network` section of a config describes."""
    return Conv4(network.filters, network.blocks, network.momentum, network.kernels, network.trainable)


class Conv4(nn.Module):
    """Four blocks of 3×3 convolution, batch norm, ReLU and 2×2 max pooling, flattened.

    The convolutions have no bias, since batch norm has a shift. Batch norm uses the statistics of each
    episode separately; the running averages are updated with their mean over episodes.

    Attributes:
      filters: filters of each block, 64 as published.
      blocks: number of blocks, 4 as published; 28×28 images give `filters` features.
      momentum: decay of the running averages.
      kernels: "cpu" or "xla"; "auto" uses "cpu" on the CPU backend. Results are equal up to rounding.
      trainable: "all", "last_stage" (the last block) or "head". Frozen parts are normalised by their running
        averages, which stay fixed.
    """

    filters: int = 64
    blocks: int = 4
    momentum: float = 0.99
    kernels: str = "auto"
    trainable: str = "all"

    @nn.compact
    def __call__(self, images: jax.Array, *, running_average: bool) -> jax.Array:
        """Embeds images.

        Args:
          images: `[..., n, height, width, channel]`, floats; leading axes are episodes.
          running_average: normalise by the running averages; otherwise by each episode's own statistics
            (which updates the averages if "batch_stats" is mutable).

        Returns:
          embeddings `[..., n, dim]`, dim = filters · (height // 2^blocks) · (width // 2^blocks).

        Raises:
          ValueError: if the images are too small for the number of poolings.
        """
        *leading, height, width, _ = images.shape
        if min(height, width) < self.smallest_image():
            raise ValueError(
                f"Images are {height}×{width}; {self.blocks} poolings need at least "
                f"{self.smallest_image()}×{self.smallest_image()}."
            )
        groups = 1
        for episodes in leading[:-1]:
            groups *= episodes
        x = images.reshape(-1, *images.shape[-3:])
        for block in range(self.blocks):
            is_last = block == self.blocks - 1
            if is_last and self.trainable == "last_stage":
                x = jax.lax.stop_gradient(x)
            frozen = self.trainable != "all" and not (is_last and self.trainable == "last_stage")
            x = ConvBlock(self.filters, self.momentum, self.kernels, name=f"block_{block}")(
                x, groups=groups, running_average=running_average or frozen
            )
        return x.reshape(*leading, -1)

    def last_stage(self) -> tuple[str, ...]:
        """Names of the modules trained with `trainable="last_stage"`."""
        return (f"block_{self.blocks - 1}",)

    def smallest_image(self) -> int:
        """Minimum height and width of images in pixels."""
        return 2**self.blocks


class ConvBlock(nn.Module):
    """3×3 convolution, batch norm, ReLU and 2×2 max pooling.

    Pooling comes first: max pooling commutes with a rising map, and folding the sign of the scale into
    the filter makes normalisation one. A quarter of the values is left to normalise.
    """

    filters: int
    momentum: float
    kernels: str

    @nn.compact
    def __call__(self, x: jax.Array, *, groups: int, running_average: bool) -> jax.Array:
        """`[groups · n, height, width, channel]` to `[groups · n, height // 2, width // 2, filters]`."""
        kernel = self.param("kernel", nn.initializers.he_normal(), (3, 3, x.shape[-1], self.filters))
        scale = self.param("scale", nn.initializers.ones_init(), (self.filters,))
        shift = self.param("shift", nn.initializers.zeros_init(), (self.filters,))
        average_mean = self.variable("batch_stats", "mean", jnp.zeros, (self.filters,))
        average_variance = self.variable("batch_stats", "variance", jnp.ones, (self.filters,))
        kernel, scale, shift = (jnp.asarray(p, x.dtype) for p in (kernel, scale, shift))

        if running_average:
            mean = average_mean.value.astype(x.dtype)
            scale = scale * jax.lax.rsqrt(average_variance.value + EPSILON).astype(x.dtype)
            return nn.relu(self._pooled(x, kernel * scale) + (shift - mean * scale))

        sign = jax.lax.stop_gradient(jnp.where(scale < 0, -1, 1).astype(x.dtype))
        pooled, mean, variance = self._pooled_and_moments(x, kernel * sign, groups)
        mean, variance = shares.moments(mean, variance)
        if not self.is_initializing() and self.is_mutable_collection("batch_stats"):
            keep = self.momentum
            average_mean.value = keep * average_mean.value + (1 - keep) * jnp.mean(mean, 0) * sign
            average_variance.value = keep * average_variance.value + (1 - keep) * jnp.mean(variance, 0)
        slope = scale * sign * jax.lax.rsqrt(variance + EPSILON)
        by_group = pooled.reshape(groups, -1, self.filters)
        if self._on_cpu():
            return pooling.normalised_relu(by_group, mean, slope, shift).reshape(pooled.shape)
        return nn.relu((by_group - mean[:, None]) * slope[:, None] + shift).reshape(pooled.shape)

    def _pooled(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        if not self._on_cpu():
            return pooling.max_pool(convolution.xla_conv3x3(x, kernel))
        if x.shape[-1] == 1:
            return grey.grey_conv3x3_max_pool(x, kernel)
        return winograd.conv3x3_max_pool(x, kernel)

    def _pooled_and_moments(
        self, x: jax.Array, kernel: jax.Array, groups: int
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        if self._on_cpu() and x.shape[-1] == 1:
            pooled = grey.grey_conv3x3_max_pool(x, kernel)
            return pooled, *grey.grey_conv3x3_moments(x, kernel, groups)
        if self._on_cpu():
            return pooling.max_pool_and_moments(convolution.conv3x3(x, kernel), groups)
        response = convolution.xla_conv3x3(x, kernel)
        return pooling.xla_max_pool_and_moments(response, groups)

    def _on_cpu(self) -> bool:
        return self.kernels == "cpu" or (self.kernels == "auto" and jax.default_backend() == "cpu")
