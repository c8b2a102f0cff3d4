"""The network of a classifier, from a folder or published weights, and its embeddings of images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fsljax import networks
from fsljax.classification.stored_config import (
    classifier_config,
    pretrained_config,
    pretrained_model,
    read_classifier_config,
)
from fsljax.config import plain
from fsljax.data.batches import batch_size, embed_in_batches
from fsljax.data.folders.class_folders import prepared_classes
from fsljax.data.labels import Label, listed_labels
from fsljax.data.user_images import Images, prepare
from fsljax.networks.forked import check_not_forked
from fsljax.networks.variables import check_variables
from fsljax.training import saved_model, workdir
from fsljax.training.checkpoints import Checkpoints, Model


class ImageNetwork:
    """A network that embeds an application's images.

    Attributes:
      config: the part of its config that is used.
      model: its variables.
      origin: the folder or the weights that it was loaded from; "": neither.
    """

    origin = ""

    def __init__(self, config: Mapping[str, Any] | ConfigDict, model: Model):
        check_not_forked()
        self._stored = plain(config)
        self.config, self.model = classifier_config(config), model
        self._network = networks.build(self.config)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_embed_batch"}

    @classmethod
    def of_folder(cls, folder: Path) -> ImageNetwork:
        """The network of a run's workdir, a shipped model, or a saved classifier.

        Raises:
          UserError: if the folder holds none of these, or cannot be read.
        """
        check_not_forked()
        config = read_classifier_config(folder)
        network = cls(config, Checkpoints(folder).restore_model())
        network.origin = str(folder)
        return network

    @classmethod
    def of_weights(cls, weights: str) -> ImageNetwork:
        """A network with published weights.

        Raises:
          UserError: if the weights are not available, or belong to an unsupported network.
        """
        check_not_forked()
        config = pretrained_config(weights)
        network = cls(config, pretrained_model(config))
        network.origin = weights
        return network

    def described(self) -> str:
        """What it is, in a few words: backbone, image size, and where it is from."""
        data = self.config.data
        size = f"{data.image_size}×{data.image_size}×{data.channels}"
        return f"{self.config.network.name} at {size}" + (f" from {self.origin!r}" if self.origin else "")

    @property
    def module(self) -> nn.Module:
        """The network itself."""
        return self._network

    def dim(self, where: str) -> int:
        """Dimension of an embedding.

        Raises:
          UserError: if the model, loaded from `where`, belongs to a different network.
        """
        side, channels = self.config.data.image_size, self.config.data.channels
        (dim,) = check_variables(self._network, self.model.variables, (side, side, channels), where)
        return dim

    def embed(self, images: Images) -> np.ndarray:
        """Embeddings, float32 `[n, dim]`.

        Raises:
          UserError: if there are no images, or one cannot be read.
        """
        check_not_forked()
        prepared = prepare(images, self.config.data)
        return embed_in_batches(self._embed_batch, prepared, batch=batch_size(len(prepared)))

    def labelled(
        self, images: Images, labels: Label | Iterable[Label] | np.ndarray | None
    ) -> tuple[list[Label], np.ndarray]:
        """The label of each image, and the embeddings `[n, dim]`.

        Args:
          images: n images; or, without labels, the path of a folder with one subfolder of images per class.
          labels: n labels, or a single label for all.

        Raises:
          UserError: if images and labels do not match; or as in `embed`.
        """
        if labels is not None or not isinstance(images, str | os.PathLike):
            embeddings = self.embed(images)
            return listed_labels(labels, len(embeddings)), embeddings
        names: list[Label] = []
        parts = []
        for prepared, of_part in prepared_classes(images, self.config.data):
            parts.append(self.embed(prepared))
            names += of_part
        return names, np.concatenate(parts)

    def write(self, folder: Path, labels: list[Label], arrays: Mapping[str, np.ndarray]) -> None:
        """Writes the network and the stored classes to a folder that `of_folder` can read.

        Raises:
          UserError: if the folder cannot be written, or holds a different model.
        """
        saved_model.write(folder, self._stored, self.model, labels, arrays, self._is_config_of)

    @cached_property
    def _embed_batch(self) -> Any:
        variables = jax.device_put(self.model.variables)

        def embed(images: jax.Array) -> Any:
            return self._network.apply(variables, images.astype(jnp.float32) / 255, running_average=True)

        return jax.jit(embed)

    def _is_config_of(self, folder: Path) -> bool:
        there = classifier_config(read_classifier_config(folder))
        return not workdir.differences(there, self.config)
