"""Regions compared as pictures of their own: cut out, and embedded by a classifier's frozen backbone.

As DE-ViT does with DINOv2 (Zhang et al., 2023, https://arxiv.org/abs/2309.12969): what such a network tells
apart was not learned from the few base classes of the detector.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fsljax import networks
from fsljax.config import Data, Network, config_dict, read, section
from fsljax.detection.data.structures import Array
from fsljax.detection.enrolled.head_space import HeadSpace
from fsljax.detection.model.enroll import Enrollment
from fsljax.detection.model.search import Seen
from fsljax.detection.model.trained import TrainedDetector
from fsljax.distances import normalize
from fsljax.networks import pretrained
from fsljax.networks.variables import Variables

CROPS = 32
"""Proposals of an image that are compared, the best ones."""

_FINER = 2  # crops are cut out of images of so many times the detector's side
_AROUND = 1.2  # the side of a crop, times the box's longer one
_SIGMA = 0.85  # of published features: half of what is as far as another class is taken for one


@dataclass(frozen=True)
class _Sections:
    data: Data = section(Data)
    network: Network = section(Network)


@dataclass(frozen=True, eq=False)
class Backbone:
    """A classifier's network, with its weights.

    Attributes:
      weights: as they were named.
      digest: SHA-256 of their file.
      side: pixels of the squares that it takes.
      dim: of its features.
      network, variables: of it.
    """

    weights: str
    digest: str
    side: int
    dim: int
    network: nn.Module
    variables: Variables


def load_backbone(weights: str) -> Backbone:
    """That of published weights, which are fetched where they are not here.

    Args:
      weights: as `config.network.weights` names them: "efficientnet_lite0", "dinov2_small", a file, a
        repository.

    Raises:
      UserError: if they cannot be had, or are of a network that is not here.
    """
    as_the_weights_say = {"name": "", "input_mean": (), "input_std": (), "padding": "", "weights": weights}
    given = config_dict(_Sections())
    given.data.update({"name": "folder", "channels": 3, "image_size": 0})
    given.network.update(as_the_weights_say)
    config = read(_Sections, pretrained.described(given), complete=False)
    network, side = networks.build(config), config.data.image_size

    def first(key: jax.Array) -> tuple[Any, Any]:
        return network.init_with_output(key, jnp.zeros((1, side, side, 3)), running_average=True)

    features, shapes = jax.eval_shape(first, jax.random.key(0))
    empty = jax.tree.map(lambda shape: np.zeros(shape.shape, shape.dtype), dict(shapes))
    variables = networks.load_weights(
        pretrained.located(config.network), {"params": {}, "batch_stats": {}, **empty}
    )
    digest = config.network.weights_digest
    return Backbone(weights, digest, side, features.shape[-1], network, jax.device_get(variables))


@dataclass(frozen=True, eq=False)
class BackboneSpace:
    """By features of crops of length 1; see `fsljax.detection.enrolled.looking.Space`."""

    trained: TrainedDetector
    backbone: Backbone

    @property
    def side(self) -> int:
        return _FINER * self.trained.config.data.image_size

    @property
    def dim(self) -> int:
        return self.backbone.dim

    @property
    def enrollment(self) -> Enrollment:
        return replace(self._head.enrollment, sigma=_SIGMA, normalize=True)

    def look(self, images: Array, sizes: Array, given: Array, mask: Array) -> Seen:
        """The boxes that are given, and the best proposals after regression, by their crops."""
        small = _shrunk(jnp.asarray(images), self.trained.config.data.image_size)
        coarse = self._head.look(small, np.asarray(sizes) / _FINER, np.asarray(given) / _FINER, mask)
        count = given.shape[1]
        chosen = slice(count, count + CROPS)
        parts = (coarse.valid, coarse.objectness, coarse.weight)
        valid, objectness, weight = (np.asarray(part)[:, : count + CROPS] for part in parts)
        refined = np.asarray(coarse.refined)[:, chosen] * _FINER
        boxes = np.concatenate([np.asarray(given, np.float32), refined], axis=1)
        features = np.stack(
            [
                self._features(image, of_image, size)
                for image, of_image, size in zip(jnp.asarray(images), boxes, np.asarray(sizes), strict=True)
            ]
        )
        return Seen(*map(jnp.asarray, (boxes, boxes, valid, objectness, weight, features)))

    def _features(self, image: jax.Array, boxes: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Of boxes `[n, 4]` in an image: `[n, dim]`, from batches of one size."""
        whole = -(-len(boxes) // CROPS) * CROPS
        filled = np.zeros((whole, 4), np.float32)
        filled[: len(boxes)] = boxes
        embed = partial(_embed, self.backbone.network, self.backbone.side, self._variables, image)
        parts = [np.asarray(embed(batch, jnp.asarray(size))) for batch in filled.reshape(-1, CROPS, 4)]
        return np.concatenate(parts)[: len(boxes)]

    @cached_property
    def _head(self) -> HeadSpace:
        return HeadSpace(self.trained)

    @cached_property
    def _variables(self) -> Variables:
        variables: Variables = jax.device_put(self.backbone.variables)
        return variables

    def __getstate__(self) -> dict[str, object]:
        return {"trained": self.trained, "backbone": self.backbone}


@partial(jax.jit, static_argnums=1)
def _shrunk(images: jax.Array, side: int) -> jax.Array:
    resized = jax.image.resize(
        images.astype(jnp.float32), (len(images), side, side, images.shape[-1]), "linear"
    )
    return jnp.round(resized).astype(images.dtype)


@partial(jax.jit, static_argnums=(0, 1))
def _embed(
    network: nn.Module, side: int, variables: Variables, image: jax.Array, boxes: jax.Array, size: jax.Array
) -> jax.Array:
    crops = jax.vmap(partial(cut_out, image, size=size, side=side))(boxes)
    pixels = jnp.broadcast_to(crops, (*crops.shape[:-1], 3)) / 255
    return normalize(jnp.asarray(network.apply(variables, pixels, running_average=True)))


def cut_out(image: jax.Array, box: jax.Array, *, size: jax.Array, side: int) -> jax.Array:
    """The square around a box, a little larger, in as many pixels a side; see `_AROUND`.

    It is moved into the image; where the image is not as high or wide, what there is is stretched.

    Args:
      image: `[height, width, channel]`.
      box: `[4]`.
      size: `[2]`, height and width without padding.
      side: of the result.

    Returns:
      float32 `[side, side, channel]`.
    """
    centre, longest = (box[:2] + box[2:]) / 2, jnp.max(box[2:] - box[:2])
    extent = jnp.minimum(jnp.maximum(_AROUND * longest, 4.0), size)
    start = jnp.clip(centre - extent / 2, 0.0, size - extent)
    scale = side / extent
    shape = (side, side, image.shape[-1])
    return jax.image.scale_and_translate(
        image.astype(jnp.float32), shape, (0, 1), scale, -start * scale, "linear"
    )
