"""Vision Transformers (Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929), including DINOv2."""

from __future__ import annotations

import math
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsljax.config import Network
from fsljax.errors import UserError
from fsljax.networks.layers import Settings, into_last_stage, settings_of
from fsljax.networks.positions import resized_positions

_EPSILON = 1e-6
_FIRST_LAYER_SCALE = 1e-5
_SMALL = nn.initializers.truncated_normal(0.02)


def build(network: Network) -> VisionTransformer:
    """The backbone that the `network` section of a config describes.

    Raises:
      UserError: if its width is not divisible by its number of heads.
    """
    if network.width % network.heads:
        raise UserError(
            f"config.network.width is {network.width}, which is not divisible by config.network.heads, "
            f"{network.heads}: each attention head of vit has an equal share of the width."
        )
    return VisionTransformer(
        network.patch_size, network.width, network.depth, network.heads, network.mlp_ratio,
        network.layer_scale, network.register_tokens, network.embed_class, network.pool,
        settings_of(network),
    )  # fmt: skip


def fields(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, object]:
    """Infers the `network` section's fields from a state dict with timm's names.

    The number of heads cannot be inferred: 64 dimensions per head are assumed, as in all published networks.

    Args:
      shapes: shapes of its tensors, by name.

    Raises:
      UserError: if it does not belong to a Vision Transformer of this kind.
    """
    try:
        width, _, patch_size, _ = shapes["patch_embed.proj.weight"]
        hidden, _ = shapes["blocks.0.mlp.fc1.weight"]
        registers = shapes["reg_token"][1] if "reg_token" in shapes else 0
        places = shapes["pos_embed"][1]
    except (KeyError, IndexError, ValueError) as error:
        raise UserError("The weights are not those of a Vision Transformer with timm's names.") from error
    depth = len({name.split(".")[1] for name in shapes if name.startswith("blocks.")})
    return {
        "patch_size": patch_size, "width": width, "depth": depth, "heads": max(1, width // 64),
        "mlp_ratio": hidden / width, "layer_scale": "blocks.0.ls1.gamma" in shapes,
        "register_tokens": registers, "embed_class": math.isqrt(places) ** 2 != places,
    }  # fmt: skip


class VisionTransformer(nn.Module):
    """A Vision Transformer; parameters are named as in timm.

    Pixels on the right and at the bottom beyond whole patches are ignored.

    Attributes:
      patch_size: height and width of a patch in pixels.
      width: dimension of each token.
      depth: number of blocks.
      heads: attention heads of each block.
      mlp_ratio: hidden units of each block's MLP as a multiple of `width`.
      layer_scale: scale each residual branch by a learned factor per dimension (DINOv2).
      register_tokens: tokens in addition to the patches and the class token (DINOv2 with registers: 4).
      embed_class: class and register tokens have position embeddings too.
      pool: "token": features of the class token; "average": mean over the patches.
      settings: which part is trained.
    """

    patch_size: int = 14
    width: int = 384
    depth: int = 12
    heads: int = 6
    mlp_ratio: float = 4.0
    layer_scale: bool = True
    register_tokens: int = 0
    embed_class: bool = True
    pool: str = "token"
    settings: Settings = Settings()

    @nn.compact
    def __call__(self, images: jax.Array, *, running_average: bool) -> jax.Array:
        """Embeds images.

        Args:
          images: `[..., n, height, width, channel]`, floats; leading axes are episodes.
          running_average: ignored, as there is no batch norm.

        Returns:
          features `[..., n, width]`.

        Raises:
          ValueError: if the images are smaller than a patch.
        """
        *leading, height, width, channels = images.shape
        if min(height, width) < self.patch_size:
            raise ValueError(
                f"Images are {height}×{width}, smaller than a patch of {self.patch_size} pixels."
            )
        x = _Patches(self.patch_size, self.width, name="patch_embed")(
            images.reshape(-1, height, width, channels)
        )
        grid = x.shape[1:3]
        x = x.reshape(len(x), -1, self.width)
        tokens = [self._token("cls_token", 1, x)]
        if self.register_tokens:
            tokens.append(self._token("reg_token", self.register_tokens, x))
        before = 1 + self.register_tokens
        if self.embed_class:
            x = jnp.concatenate([*tokens, x], axis=1) + self._positions(grid, before, x.dtype)
        else:
            x = jnp.concatenate([*tokens, x + self._positions(grid, 0, x.dtype)], axis=1)
        x = _Blocks(
            self.depth, self.heads, self.mlp_ratio, self.layer_scale, self.settings, name="blocks"
        )(x)  # fmt: skip
        x = _norm(x, "norm")
        features = x[:, 0] if self.pool == "token" else jnp.mean(x[:, before:], axis=1)
        return features.reshape(*leading, -1)

    def last_stage(self) -> tuple[str, ...]:
        """Names of the modules trained with `trainable="last_stage"`."""
        return (f"blocks.{self.depth - 1}", "norm")

    def smallest_image(self) -> int:
        """Minimum height and width of images in pixels."""
        return self.patch_size

    def _token(self, name: str, count: int, x: jax.Array) -> jax.Array:
        token = self.param(name, nn.initializers.normal(1e-6), (1, count, self.width))
        return jnp.broadcast_to(jnp.asarray(token, x.dtype), (len(x), count, self.width))

    def _positions(self, grid: tuple[int, ...], before: int, dtype: jnp.dtype) -> jax.Array:
        """Position embeddings `[1, before + places, width]` of a grid, made for that of the first images."""
        if self.has_variable("params", "pos_embed"):
            positions: jax.Array = self.get_variable("params", "pos_embed")
        else:
            positions = self.param("pos_embed", _SMALL, (1, before + math.prod(grid), self.width))
        return jnp.asarray(resized_positions(positions, before, grid), dtype)


class _Patches(nn.Module):
    patch_size: int
    width: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """`[n, height, width, channel]` to `[n, rows, columns, width]`."""
        return _PatchProjection(self.patch_size, self.width, name="proj")(images)


class _PatchProjection(nn.Module):
    patch_size: int
    width: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        size = self.patch_size
        count, height, width, channels = images.shape
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (size, size, channels, self.width))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.width,))
        rows, columns = height // size, width // size
        whole = images[:, : rows * size, : columns * size]
        patches = whole.reshape(count, rows, size, columns, size, channels).swapaxes(2, 3)
        patches = patches.reshape(count, rows, columns, -1)
        return patches @ jnp.asarray(kernel, images.dtype).reshape(-1, self.width) + jnp.asarray(
            bias, images.dtype
        )


class _Blocks(nn.Module):
    depth: int
    heads: int
    mlp_ratio: float
    layer_scale: bool
    settings: Settings

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for number in range(self.depth):
            if number == self.depth - 1:
                x = into_last_stage(x, self.settings)
            x = _Block(self.heads, self.mlp_ratio, self.layer_scale, name=str(number))(x)
        return x


class _Block(nn.Module):
    heads: int
    mlp_ratio: float
    layer_scale: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Tokens `[n, tokens, width]`, after attending to the other tokens of their image."""
        y = _Attention(self.heads, name="attn")(_norm(x, "norm1"))
        x = x + (_LayerScale(name="ls1")(y) if self.layer_scale else y)
        y = _MLP(max(1, int(x.shape[-1] * self.mlp_ratio)), name="mlp")(_norm(x, "norm2"))
        return x + (_LayerScale(name="ls2")(y) if self.layer_scale else y)


class _Attention(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        count, tokens, width = x.shape
        by_head = _dense(x, 3 * width, "qkv").reshape(count, tokens, 3, self.heads, width // self.heads)
        query, key, value = by_head.transpose(2, 0, 3, 1, 4)
        logits = query / math.sqrt(width // self.heads) @ key.swapaxes(-1, -2)
        attended = (nn.softmax(logits) @ value).swapaxes(1, 2)
        return _dense(attended.reshape(x.shape), width, "proj")


class _MLP(nn.Module):
    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x, units = _dense(x, self.hidden, "fc1"), x.shape[-1]
        # As PyTorch has it; `nn.gelu` takes erfc, which takes the CPU backend half as long again.
        x = 0.5 * x * (1 + jax.lax.erf(x / math.sqrt(2)))
        return _dense(x, units, "fc2")


class _LayerScale(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        gamma = self.param("gamma", nn.initializers.constant(_FIRST_LAYER_SCALE), x.shape[-1:])
        return x * jnp.asarray(gamma, x.dtype)


def _norm(x: jax.Array, name: str) -> jax.Array:
    normalized: jax.Array = nn.LayerNorm(_EPSILON, dtype=x.dtype, name=name)(x)
    return normalized


def _dense(x: jax.Array, units: int, name: str) -> jax.Array:
    return nn.Dense(units, dtype=x.dtype, param_dtype=jnp.result_type(float), kernel_init=_SMALL, name=name)(
        x
    )
