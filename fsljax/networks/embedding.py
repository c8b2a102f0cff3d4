"""A backbone with pixel scaling before it and an embedding head on top."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsljax.distances import normalize


class Embedding(nn.Module):
    """Scales pixels, computes the backbone's features, embeds them with dense layers, and normalises.

    `features` and `embed_features` are its two halves: if the backbone is frozen, the first is computed once
    (`fsljax.data.features`) and only the second is trained,
    `network.apply(variables, features, method="embed_features")`.

    Attributes:
      backbone: one of the networks of `fsljax.networks`; its parameters are under "backbone".
      dense: units of each dense layer, with ReLU between them; parameters under "head".
      normalize: scale embeddings to length 1.
      input_mean, input_std: mean and standard deviation that normalise pixels in [0, 1]: one number, or one
        per channel.
      frozen: stop gradients at the backbone's output.
      frozen_statistics: the backbone's batch norm normalises by its running averages, which stay fixed.
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
    """Dense layers with ReLU between them; the identity if there are none."""

    dense: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for number, units in enumerate(self.dense):
            if number:
                x = nn.relu(x)
            x = nn.Dense(units, dtype=x.dtype, param_dtype=jnp.result_type(float), name=str(number))(x)
        return x


def trainable_mask(params: Any, trainable: str, last_stage: tuple[str, ...] = ()) -> Any:
    """Mask of the parameters that are trained.

    Args:
      params: parameters of a network, or any tree containing them; its backbone is under "backbone".
      trainable: "all"; "last_stage": the backbone's last stage and everything outside the backbone; "head":
        everything outside the backbone.
      last_stage: dotted names of the backbone's modules that form its last stage.

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
