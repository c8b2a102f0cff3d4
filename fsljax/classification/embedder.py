"""What methods of classification share: inputs of a network, and its embeddings of batches and parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fsljax import networks
from fsljax.config import plain
from fsljax.data.augmentation import Augmentation, augment, augment_at_step
from fsljax.data.dataset import ImageDataset
from fsljax.data.io.encoded_images import EncodedImages
from fsljax.data.io.features import fingerprint_of, frozen_features
from fsljax.evaluation.episodic import embed_in_batches
from fsljax.training.checkpoints import digest
from fsljax.training.state import TrainState, first_state

_FEATURES_A_BATCH = 1024
_IMAGES_A_BATCH = 128
# Of config.network, what features depend on beside the weights.
_BACKBONE_FIELDS = ("name", "filters", "blocks", "padding", "input_mean", "input_std")


@dataclass(frozen=True)
class Embedder:
    """A network that embeds images or, where its backbone is frozen, the features of images.

    Inputs are uint8 images `[n, height, width, channel]`, or float32 features `[n, views, features]`,
    computed once and kept in the user's cache folder.

    Attributes:
      config: of the experiment.
      image_shape: `(height, width, channel)`.
      network: that `config.network` describes.
      amounts: of augmentation.
    """

    config: ConfigDict
    image_shape: tuple[int, ...]
    network: nn.Module
    amounts: Augmentation = field(default_factory=Augmentation)

    @property
    def frozen(self) -> bool:
        return self.config.network.trainable == "head"

    def init(
        self,
        key: jax.Array,
        *,
        more_params: dict[str, Any] | None = None,
        rates: dict[str, float] | None = None,
    ) -> TrainState:
        """The state before the first step; `more_params` are the method's own, `rates` of their learning."""
        return first_state(
            self.config, self.network, self.image_shape, key, more_params=more_params, rates=rates
        )

    def dim(self) -> int:
        """Dimensions of an embedding."""
        images = jax.ShapeDtypeStruct((1, *self.image_shape), jnp.float32)
        embeddings, _ = jax.eval_shape(
            partial(self.network.init_with_output, running_average=True), jax.random.key(0), images
        )
        return embeddings.shape[-1]

    def inputs(self, variables: dict[str, Any], part: ImageDataset, *, training: bool) -> np.ndarray:
        """What the network is given of a part: its images, as they are kept, or their features.

        Args:
          variables: of the network; with a frozen backbone they must hold its weights.
          part: of the data set.
          training: take `config.network.views` changed views of each image where the backbone is frozen,
            else the plain image alone.
        """
        if not self.frozen:
            return part.images
        views = self.config.network.views if training else 0
        backbone = {name: tree.get("backbone", {}) for name, tree in variables.items()}
        amounts = plain(self.config.augment) if views else {}
        seen = [plain(self.config.network)[name] for name in _BACKBONE_FIELDS]
        return frozen_features(
            partial(self._features, variables),
            part.images,
            fingerprint=fingerprint_of(part.fingerprint(), digest(backbone), seen, amounts),
            views=max(views, 1),
            augment=partial(augment, amounts=self.amounts) if views else None,
        )

    def embed_for_training(
        self, params: Any, batch_stats: Any, inputs: jax.Array, key: jax.Array, step: jax.Array | int
    ) -> tuple[jax.Array, Any]:
        """Embeddings `[batch, dim]` of inputs, changed at random, and the new batch statistics."""
        if self.frozen:
            view_key, drop_key = jax.random.split(key)
            view = jax.random.randint(view_key, (len(inputs),), 0, inputs.shape[1])
            features = inputs[jnp.arange(len(inputs)), view]
            if dropped := self.config.network.feature_dropout:
                kept = jax.random.bernoulli(drop_key, 1 - dropped, features.shape)
                features = jnp.where(kept, features / (1 - dropped), 0)
            embedded: Any = self.network.apply({"params": params}, features, method="embed_features")
            return embedded, batch_stats
        images = augment_at_step(step, key, inputs.astype(jnp.float32) / 255, self.amounts)
        embeddings, changed = self.network.apply(
            {"params": params, "batch_stats": batch_stats},
            images,
            running_average=False,
            mutable=["batch_stats"],
        )
        return embeddings, changed.get("batch_stats", batch_stats)

    def embed(self, variables: dict[str, Any], inputs: np.ndarray | jax.Array | EncodedImages) -> np.ndarray:
        """Embeddings float32 `[n, dim]` of all inputs, by running averages; of features the first view."""
        batch = min(_FEATURES_A_BATCH, len(inputs)) if self.frozen else _IMAGES_A_BATCH
        held = np.asarray(inputs) if isinstance(inputs, jax.Array) else inputs
        return embed_in_batches(partial(self._embeddings, variables), held, batch=batch)

    def embed_as_in_training(
        self, variables: dict[str, Any], inputs: np.ndarray | jax.Array | EncodedImages, key: jax.Array
    ) -> np.ndarray:
        """Embeddings float32 `[n, dim]` of inputs as they are, where training puts them.

        Where batch norm learns its averages, in shuffled batches by their own statistics: early in training
        the running averages place embeddings elsewhere.
        """
        if self.frozen or self.config.network.frozen_statistics:
            return self.embed(variables, inputs)
        held = np.asarray(inputs) if isinstance(inputs, jax.Array) else inputs
        order = np.asarray(jax.random.permutation(key, len(held)))
        batch = min(_IMAGES_A_BATCH, len(held))
        embeddings: dict[int, np.ndarray] = {}
        for start in range(0, len(held), batch):
            # The last batch is filled up with other images: an empty one would be part of its statistics.
            rows = np.resize(np.roll(order, -start), batch)
            found = np.asarray(self._embeddings_of_batch(variables, held[rows]), np.float32)
            embeddings |= dict(zip(rows.tolist(), found, strict=True))
        return np.stack([embeddings[row] for row in range(len(held))])

    @cached_property
    def _features(self) -> Any:
        def features(variables: dict[str, Any], images: jax.Array) -> Any:
            return self.network.apply(variables, images, running_average=True, method="features")

        return jax.jit(features)

    @cached_property
    def _embeddings_of_batch(self) -> Any:
        def embed(variables: dict[str, Any], images: jax.Array) -> Any:
            pixels = images.astype(jnp.float32) / 255
            return self.network.apply(variables, pixels, running_average=False, mutable=["batch_stats"])[0]

        return jax.jit(embed)

    @cached_property
    def _embeddings(self) -> Any:
        def embed(variables: dict[str, Any], inputs: jax.Array) -> Any:
            if self.frozen:
                return self.network.apply(variables, inputs[:, 0], method="embed_features")
            return self.network.apply(variables, inputs.astype(jnp.float32) / 255, running_average=True)

        return jax.jit(embed)


def build_embedder(config: ConfigDict, image_shape: tuple[int, ...]) -> Embedder:
    """The embedder that a config describes.

    Raises:
      UserError: if the network cannot be built.
    """
    return Embedder(config, image_shape, networks.build(config), Augmentation(**config.augment.to_dict()))
