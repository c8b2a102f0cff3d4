"""A backbone, scaled pixels before it and an embedding head after it."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsljax.distances import normalize


class Embedding(nn.Module):
    """Scales pixels, takes the backbone's features, embeds them by dense layers, and normalises.

    `features` and `embed_features` are its two halves: where the backbone is frozen, the first is computed
    once (`fsljax.data.features`) and only the second is trained,
    `network.apply(variables, features, method="embed_features")`.

    Attributes:
      backbone: a network as `fsljax.networks` has them, of its own parameters under "backbone".
      dense: units of each dense layer, with ReLU between them; parameters under "head".
      normalize: scale embeddings to length 1.
      input_mean, input_std: subtracted from pixels in [0, 1], then divided by: one number, or one a channel.
      frozen: the backbone gets no gradient.
      frozen_statistics: the backbone's batch norm keeps its running averages and normalises by them.
    """

    backbone: nn.Module
    dense: tuple[int, ...] = ()
    normalize: bool = False
    input_mean: tuple[float, ...] = (0.0,)
    input_std: tuple[float, ...] = (1.0,)
    frozen: bool = False
    frozen_statistics: bool = False

    def setup(self) -> None:
        self.head = Head(self.dense)

    def __call__(self, images: jax.Array, *, running_average: bool) -> jax.Array:
        """Embeds images `[..., n, height, width, channel]` as `[..., n, dim]`; leading axes are episodes."""
        return self.embed_features(self.features(images, running_average=running_average))

    def features(self, images: jax.Array, *, running_average: bool) -> jax.Array:
        """The backbone's features of images in [0, 1], `[..., n, features]`."""
        mean, std = (jnp.asarray(value, images.dtype) for value in (self.input_mean, self.input_std))
        running_average = running_average or self.frozen_statistics
        features = self.backbone((images - mean) / std, running_average=running_average)
        return jax.lax.stop_gradient(features) if self.frozen else features

    def embed_features(self, features: jax.Array) -> jax.Array:
        """Embeddings `[..., dim]` of features `[..., features]`."""
        embeddings = self.head(features)
        return normalize(embeddings) if self.normalize else embeddings


class Head(nn.Module):
    """Dense layers with ReLU between them; without any, its input."""

    dense: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for number, units in enumerate(self.dense):
            if number:
                x = nn.relu(x)
            x = nn.Dense(units, dtype=x.dtype, param_dtype=jnp.result_type(float), name=str(number))(x)
        return x


def trainable_mask(params: Any, trainable: str, last_stage: tuple[str, ...] = ()) -> Any:
    """Which parameters are trained.

    Args:
      params: of a network, or any tree that holds one; its backbone lies under "backbone".
      trainable: "all"; "last_stage": the backbone's last stage and all that is outside of the backbone;
        "head": what is outside of it.
      last_stage: dotted names of the backbone's parts that make up its last stage.

    Returns:
      a tree of the same structure, True where a parameter is trained.
    """

    def is_trained(path: tuple[object, ...], _: object) -> bool:
        names = [str(getattr(key, "key", key)) for key in path]
        if trainable == "all" or "backbone" not in names:
            return True
        inside = ".".join(names[names.index("backbone") + 1 :]) + "."
        return trainable == "last_stage" and inside.startswith(tuple(f"{part}." for part in last_stage))

    return jax.tree_util.tree_map_with_path(is_trained, params)
