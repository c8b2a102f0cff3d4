"""Shared by classification methods: inputs of a network, and embeddings of batches and splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from chex import ArrayTree

from fsljax import networks
from fsljax.config import Augmentation, Experiment, plain
from fsljax.data.augmentation import augment, augment_at_step, augment_classes_at_step, moved_by
from fsljax.data.batches import embed_in_batches, embed_in_order
from fsljax.data.dataset import ImageDataset
from fsljax.data.features import fingerprint_of, frozen_features
from fsljax.data.io.encoded_images import EncodedImages
from fsljax.errors import UserError
from fsljax.networks.variables import Embed, Params, Variables
from fsljax.parallel import shares
from fsljax.parallel.devices import ONE, Devices, chosen
from fsljax.parallel.shares import drawn
from fsljax.training.state import TrainState, create_train_state
from fsljax.training.state_items import digest

_FEATURES_A_BATCH = 1024
_IMAGES_A_BATCH = 128
# Of config.network, what features depend on beside the weights.
_BACKBONE_FIELDS = ("name", "filters", "blocks", "padding", "input_mean", "input_std")
_VIT_FIELDS = ("patch_size", "width", "depth", "heads", "mlp_ratio", "layer_scale", "register_tokens",
               "embed_class", "pool")  # fmt: skip


class Part(NamedTuple):
    """A split of the data set and its embeddings `[n, dim]`; devices share computations on them."""

    data: ImageDataset
    embeddings: np.ndarray
    devices: Devices = ONE


@dataclass(frozen=True)
class Embedder:
    """A network that embeds images or, if its backbone is frozen, features of images.

    Inputs are uint8 images `[n, height, width, channel]`, or float32 features `[n, views, features]`,
    computed once and stored in the user's cache folder. Outside training, the devices of `config.mesh` share
    batches, and embeddings are returned whole: all processes must make the same calls.

    Attributes:
      config: the experiment's config.
      image_shape: `(height, width, channel)`.
      network: the network that `config.network` describes.
    """

    config: Experiment
    image_shape: tuple[int, ...]
    network: nn.Module

    def __repr__(self) -> str:
        return f"Embedder({self.config.network.name} at {'×'.join(map(str, self.image_shape))})"

    @property
    def frozen(self) -> bool:
        return self.config.network.trainable == "head"

    @cached_property
    def devices(self) -> Devices:
        return chosen(self.config.mesh.devices)

    def init(
        self,
        key: jax.Array,
        *,
        more_params: Params | None = None,
        rates: dict[str, float] | None = None,
    ) -> TrainState:
        """The state before the first step; `more_params` are the method's own, `rates` of their learning."""
        return create_train_state(
            self.config, self.network, self.image_shape, key, more_params=more_params, rates=rates
        )

    def dim(self) -> int:
        """Dimension of an embedding."""
        images = jax.ShapeDtypeStruct((1, *self.image_shape), jnp.float32)
        embeddings, _ = jax.eval_shape(
            partial(self.network.init_with_output, running_average=True), jax.random.key(0), images
        )
        return embeddings.shape[-1]

    def inputs(self, variables: Variables, part: ImageDataset, *, training: bool) -> np.ndarray:
        """The network's inputs for a split: its images as stored, or their features.

        Args:
          variables: variables of the network; with a frozen backbone they must contain its weights.
          part: split of the data set.
          training: use `config.network.views` augmented views of each image, if the backbone is frozen.
        """
        if not self.frozen:
            return part.images
        network, views = self.config.network, self.config.network.views if training else 0
        backbone = {name: tree.get("backbone", {}) for name, tree in variables.items()}
        # Stored features are found by these words: the names in their order.
        amounts = dict(sorted(plain(self.config.augment).items())) if views else {}
        more: tuple[str, ...] = _VIT_FIELDS if network.name == "vit" else ()
        more += ("epsilon",) if network.epsilon != networks.EPSILON else ()
        backbone_fields = [plain(network)[name] for name in _BACKBONE_FIELDS + more]
        return frozen_features(
            self._features,
            part.images,
            variables=variables,
            devices=self.devices,
            fingerprint=fingerprint_of(part.cache_key(), digest(backbone), backbone_fields, amounts),
            views=max(views, 1),
            augment=partial(augment, amounts=self.config.augment) if views else None,
        )

    def embed_for_training(
        self,
        params: Params,
        batch_stats: ArrayTree,
        inputs: jax.Array,
        key: jax.Array,
        step: jax.Array | int,
        *,
        episodes: int | None = None,
        of_class: Augmentation | None = None,
        class_size: int = 1,
    ) -> tuple[jax.Array, ArrayTree]:
        """Embeddings of randomly augmented inputs, and the new batch statistics.

        Args:
          params, batch_stats: variables of the network.
          inputs: `[…, *input]`, as returned by `inputs`, this device's share of the batch.
          key: random key of the augmentation.
          step: training step.
          episodes: equal parts of the whole batch, each normalised by its own statistics; None: one.
          of_class: geometric augmentation of classes, shared by runs of `class_size` images; None: none.
          class_size: images per class.

        Returns:
          embeddings `[n, dim]` of this device's share, and batch statistics.
        """
        inputs = inputs.reshape(-1, *inputs.shape[-2 if self.frozen else -3 :])
        among = shares.among(len(inputs), episodes=episodes or 1)
        kind = jnp.result_type(jnp.float32, *jax.tree.leaves(params))
        if self.frozen:
            view_key, drop_key = jax.random.split(key)
            views = inputs.shape[1]
            view = drawn(lambda n: jax.random.randint(view_key, (n,), 0, views), len(inputs), among)
            features = inputs[jnp.arange(len(inputs)), view].astype(kind)
            if dropped := self.config.network.feature_dropout:
                units = features.shape[1:]
                kept = drawn(
                    lambda n: jax.random.bernoulli(drop_key, 1 - dropped, (n, *units)), len(inputs), among
                )
                features = jnp.where(kept, features / (1 - dropped), 0)
            embedded: Any = self.network.apply({"params": params}, features, method="embed_features")
            return embedded, batch_stats
        images, amounts = inputs.astype(kind) / 255, self.config.augment
        if of_class is not None and of_class.moves():
            images = augment_classes_at_step(step, key, images, amounts, of_class, class_size, among)
        else:
            images = augment_at_step(step, key, images, amounts, among)
        if episodes is not None:
            images = images.reshape(shares.own(episodes), -1, *images.shape[1:])
        embeddings, changed = self.network.apply(
            {"params": params, "batch_stats": batch_stats},
            images,
            running_average=False,
            mutable=["batch_stats"],
        )
        if episodes is not None:
            embeddings = embeddings.reshape(-1, embeddings.shape[-1])
        return embeddings, changed.get("batch_stats", batch_stats)

    def part(self, variables: Variables, data: ImageDataset) -> Part:
        """A split and its embeddings, using running averages."""
        inputs = self.inputs(variables, data, training=False)
        return Part(data, self.embed(variables, inputs), self.devices)

    def embed(self, variables: Variables, inputs: np.ndarray | jax.Array | EncodedImages) -> np.ndarray:
        """Embeddings float32 `[n, dim]` of all inputs (first view), using running averages."""
        batch = min(_FEATURES_A_BATCH, len(inputs)) if self.frozen else _IMAGES_A_BATCH
        embed = partial(self._embeddings, self.devices.replicate(variables))
        return embed_in_batches(embed, _on_host(inputs), batch=batch, devices=self.devices)

    def embed_views(self, variables: Variables, images: np.ndarray, views: int, share: float) -> np.ndarray:
        """Mean embeddings float32 `[n, dim]` of images and augmented views of each, using running averages.

        The augmentation is the same for every image, so that results do not depend on the other images.

        Args:
          variables: variables of the network.
          images: uint8 `[n, height, width, channel]`.
          views: number of views besides the original image.
          share: strength as a fraction of the amounts in `config.augment`.
        """
        variables = self.devices.replicate(variables)
        total = self.embed(variables, images).astype(np.float64)
        for view in range(views):
            given = self.devices.replicate((variables, jax.random.key(view)))
            embed = partial(self._embeddings_of_view(share), given)
            total += embed_in_batches(embed, _on_host(images), batch=_IMAGES_A_BATCH, devices=self.devices)
        return (total / (views + 1)).astype(np.float32)

    def embed_as_in_training(
        self, variables: Variables, inputs: np.ndarray | jax.Array | EncodedImages, key: jax.Array
    ) -> np.ndarray:
        """Embeddings float32 `[n, dim]` of inputs without augmentation, normalised as in training.

        If batch norm is trained, inputs are embedded in shuffled batches by their own statistics: early in
        training the running averages would give different embeddings.
        """
        if self.frozen or self.config.network.frozen_statistics:
            return self.embed(variables, inputs)
        order = np.asarray(jax.random.permutation(key, len(inputs)))
        embed = partial(self._embeddings_of_batch, self.devices.replicate(variables))
        return embed_in_order(embed, _on_host(inputs), order, batch=_IMAGES_A_BATCH, devices=self.devices)

    def embed_by_batch_statistics(self, variables: Variables, images: np.ndarray | jax.Array) -> jax.Array:
        """Embeddings `[…, dim]` of uint8 images `[…, height, width, channel]`, using their own statistics."""
        embeddings: jax.Array = self._embeddings_of_batch(variables, images)
        return embeddings

    @cached_property
    def _features(self) -> Embed:
        def features(variables: Variables, images: jax.Array) -> Any:
            return self.network.apply(variables, images, running_average=True, method="features")

        return jax.jit(features)

    @cached_property
    def _embeddings_of_batch(self) -> Embed:
        def embed(variables: Variables, images: jax.Array) -> Any:
            pixels = images.astype(jnp.float32) / 255
            return self.network.apply(variables, pixels, running_average=False, mutable=["batch_stats"])[0]

        return self.devices.over_rows(embed)

    @cached_property
    def _embeddings_of_view(self) -> Callable[[float], Callable[..., jax.Array]]:
        @cache
        def of_share(share: float) -> Callable[..., jax.Array]:
            amounts = moved_by(self.config.augment, share)

            def embed(given: tuple[Variables, jax.Array], images: jax.Array) -> Any:
                variables, key = given
                pixels = images.astype(jnp.float32) / 255
                moved = jax.vmap(lambda image: augment(key, image[None], amounts)[0])(pixels)
                return self.network.apply(variables, moved, running_average=True)

            return self.devices.over_rows(embed)

        return of_share

    @cached_property
    def _embeddings(self) -> Embed:
        def embed(variables: Variables, inputs: jax.Array) -> Any:
            if self.frozen:
                return self.network.apply(variables, inputs[:, 0], method="embed_features")
            return self.network.apply(variables, inputs.astype(jnp.float32) / 255, running_average=True)

        return self.devices.over_rows(embed)


def _on_host(inputs: np.ndarray | jax.Array | EncodedImages) -> np.ndarray | EncodedImages:
    return np.asarray(inputs) if isinstance(inputs, jax.Array) else inputs


def build_embedder(config: Experiment, image_shape: tuple[int, ...]) -> Embedder:
    """Builds the embedder that a config describes.

    Raises:
      UserError: if the network cannot be built.
    """
    return Embedder(config, image_shape, networks.build(config))


def check_network(config: Experiment) -> None:
    """Raises a UserError for network and augmentation fields that contradict each other."""
    if config.network.trainable != "head":
        for name in ("views", "feature_dropout"):
            if value := getattr(config.network, name):
                raise UserError(
                    f"config.network.{name} is {value}, but it applies only to the features of a frozen "
                    "backbone: set --config.network.trainable=head, or leave it at 0."
                )
    elif not config.network.views and config.augment != Augmentation():
        raise UserError(
            "config.augment asks for augmented images, but a frozen backbone's features are computed from "
            "the original ones: set the number of augmented views of each image, --config.network.views=8."
        )
    networks.build(config)
