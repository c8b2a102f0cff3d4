"""What a classifier reads of the config that a run keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fsljax import networks
from fsljax.config import Data, Network, config_dict, field, flat, modules, read, section
from fsljax.errors import UserError
from fsljax.losses.prototypical import DISTANCES
from fsljax.losses.repmet import VERSIONS
from fsljax.networks import pretrained
from fsljax.networks.variables import Variables
from fsljax.training import workdir
from fsljax.training.checkpoints import Model

PRETRAINED = "pretrained"
"""The method of a network with published weights."""
_DETECTOR = "repmet_detector"
# Fields without which a stored config tells too little of the network.
_NEEDED = (
    "method", "data", "network", "loss", "data.name", "data.image_size", "data.channels", "network.name",
    "network.filters", "network.blocks",
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """How embeddings are compared: as in the loss that trained the network, otherwise by prototypes."""

    distance: str = field("squared_euclidean", "distance to prototypes", choices=tuple(DISTANCES))
    temperature: float = field(1.0, "temperature that distances are divided by", above=0, factor=True)
    sigma: float = field(0.5, "σ of representatives", above=0)
    alpha: float = field(1.0, "margin of the loss", least=0)
    version: str = field("v2", "version of RepMet's loss", choices=VERSIONS)
    squared: bool = field(False, "use squared distances in the margin")


@dataclass(frozen=True)
class Support:
    """How the images of a class are represented."""

    support_representatives: int = field(
        0, "representatives per class; 0: the embedding of every image", least=0
    )


@dataclass(frozen=True)
class ClassifierConfig:
    """The part of a run's config that a classifier reads, whatever the method."""

    method: str = field("", "method that trained the network")
    data: Data = section(Data)
    network: Network = section(Network)
    loss: Comparison = section(Comparison)
    eval: Support = section(Support, free=True)


def classifier_config(config: Mapping[str, Any] | ConfigDict) -> ClassifierConfig:
    """Reads the part of a config that a classifier needs.

    Raises:
      UserError: if it is a detector's config, or a field has the wrong type or is out of bounds.
    """
    if config.get("method") == _DETECTOR:
        raise UserError("This is the config of a detector, not of a classifier: use fsljax.api.Detector.")
    return read(ClassifierConfig, config, complete=False)


def read_classifier_config(folder: Path) -> dict[str, Any]:
    """What a folder keeps of the config of its network.

    Raises:
      UserError: if there is none, or none that a network can be built of.
    """
    stored = workdir.read_config(folder)
    path = folder / workdir.CONFIG
    if stored.get("method") == _DETECTOR:
        raise UserError(
            f"{folder} holds a detector, not a classifier: load it with fsljax.api.Detector.load."
        )
    names = flat(stored)
    if missing := [name for name in _NEEDED if name not in names and name not in stored]:
        raise UserError(f"{path} cannot be read: it lacks {missing[0]!r}.")
    modules.check_imported(names["network.name"], path)
    try:
        networks.build(read(ClassifierConfig, stored, complete=False))
    except UserError as error:
        raise UserError(f"{path} cannot be read: {str(error).rstrip('.')}.") from error
    return stored


def pretrained_config(weights: str) -> ConfigDict:
    """The config of a network of published weights, which are fetched where they are not here.

    Raises:
      UserError: if they cannot be had, or are of a network that is not here.
    """
    as_the_weights_say = {"name": "", "input_mean": (), "input_std": (), "padding": "", "weights": weights}
    config = config_dict(ClassifierConfig(method=PRETRAINED))
    config.data.update({"name": "folder", "channels": 3, "image_size": 0})
    config.network.update(as_the_weights_say)
    return pretrained.described(config)


def pretrained_model(config: ConfigDict) -> Model:
    """The network of a config that `pretrained_config` made, with its weights.

    Raises:
      UserError: as `fsljax.networks.load_weights`.
    """
    typed = classifier_config(config)
    network, side = networks.build(typed), typed.data.image_size

    def first(key: jax.Array) -> Variables:
        variables: Variables = network.init(key, jnp.zeros((1, side, side, 3)), running_average=True)
        return variables

    shapes = jax.eval_shape(first, jax.random.key(0))
    empty = jax.tree.map(lambda shape: np.zeros(shape.shape, shape.dtype), dict(shapes))
    variables = networks.load_weights(
        pretrained.located(typed.network), {"params": {}, "batch_stats": {}, **empty}
    )
    return Model(0, jax.device_get(variables))
