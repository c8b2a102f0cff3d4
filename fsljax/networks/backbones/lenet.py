"""LeNet-5 (LeCun et al., 1998, Proceedings of the IEEE 86) with batch norm, ReLU and max pooling."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsljax.config import Network
from fsljax.networks.layers import Conv, Norm, Settings, into_last_stage, max_pool, of_stages, settings_of

_SMALLEST = 12


def build(network: Network) -> LeNet:
    """The backbone that the `network` section of a config describes."""
    return LeNet(settings_of(network))


class LeNet(nn.Module):
    """Two 5×5 convolutions with 2×2 pooling, then dense layers of 120 and 84, for 28×28 pixels.

    In place of the original's tanh, trainable average pooling and sparse connections, this uses the now usual
    ReLU, max pooling and full connections; batch norm follows each layer.

    Attributes:
      settings: padding, momentum, kernels, and which part is trained: the last stage consists of the dense
        layers.
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
          features `[..., n, 84]`.

        Raises:
          ValueError: if the images are too small for the network.
        """
        *leading, height, width, _ = images.shape
        if min(height, width) < self.smallest_image():
            raise ValueError(f"Images are {height}×{width}; LeNet needs at least {_SMALLEST}×{_SMALLEST}.")
        settings = self.settings
        x = images.reshape(-1, *images.shape[-3:])
        before, last = of_stages(leading, settings, running_average=running_average)
        for number, filters in ((1, 6), (2, 16)):
            x = Conv(settings, filters, (5, 5), valid=number > 1, name=f"conv{number}")(x)
            x = nn.relu(Norm(settings, name=f"bn{number}")(x, before))
            x = max_pool(x, settings, window=2, valid=True)
        x = into_last_stage(x, settings).reshape(len(x), -1)
        for number, units in ((3, 120), (4, 84)):
            x = nn.Dense(
                units,
                use_bias=False,
                dtype=x.dtype,
                param_dtype=jnp.result_type(float),
                name=f"dense{number}",
            )(x)
            x = nn.relu(Norm(settings, name=f"bn{number}")(x, last))
        return x.reshape(*leading, -1)

    def last_stage(self) -> tuple[str, ...]:
        """Names of the modules trained with `trainable="last_stage"`."""
        return ("dense3", "bn3", "dense4", "bn4")

    def smallest_image(self) -> int:
        """Minimum height and width of images in pixels."""
        return _SMALLEST
