"""What a classifier reads of the config that a run keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fsljax import networks
from fsljax.config import Data, Network, field, flat, modules, read, section
from fsljax.errors import UserError
from fsljax.losses.prototypical import DISTANCES
from fsljax.losses.repmet import VERSIONS
from fsljax.training import workdir

_DETECTOR = "repmet_detector"
# Fields without which a stored config tells too little of the network.
_NEEDED = (
    "method", "data", "network", "loss", "data.name", "data.image_size", "data.channels", "network.name",
    "network.filters", "network.blocks",
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """How a network's embeddings are compared, by the loss that trained it; others by prototypes."""

    distance: str = field("squared_euclidean", "to prototypes", choices=tuple(DISTANCES))
    temperature: float = field(1.0, "by which distances are divided", above=0, factor=True)
    sigma: float = field(0.5, "σ of representatives", above=0)
    alpha: float = field(1.0, "margin of the loss", least=0)
    version: str = field("v2", "of RepMet's loss", choices=VERSIONS)
    squared: bool = field(False, "squared distances in the margin")


@dataclass(frozen=True)
class Support:
    """What is made of the images of a class."""

    support_representatives: int = field(0, "of a class; 0: every image's embedding is one", least=0)


@dataclass(frozen=True)
class ClassifierConfig:
    """What a classifier reads of the config of a run, whatever its method."""

    method: str = field("", "that trained the network")
    data: Data = section(Data)
    network: Network = section(Network)
    loss: Comparison = section(Comparison)
    eval: Support = section(Support, free=True)


def classifier_config(config: Mapping[str, Any] | ConfigDict) -> ClassifierConfig:
    """What a classifier reads of a config.

    Raises:
      UserError: if it is a detector's, or a field is of another type or out of bounds.
    """
    if config.get("method") == _DETECTOR:
        raise UserError("This is the config of a detector, no classifier's: fsljax.api.Detector takes it.")
    return read(ClassifierConfig, config, complete=False)


def read_classifier_config(folder: Path) -> dict[str, Any]:
    """What a folder keeps of the config of its network.

    Raises:
      UserError: if there is none, or none that a network can be built of.
    """
    stored = workdir.read_config(folder)
    path = folder / workdir.CONFIG
    if stored.get("method") == _DETECTOR:
        raise UserError(f"{folder} holds a detector, no classifier: load it by fsljax.api.Detector.load.")
    names = flat(stored)
    if missing := [name for name in _NEEDED if name not in names and name not in stored]:
        raise UserError(f"{path} cannot be read: it lacks {missing[0]!r}.")
    modules.check_imported(names["network.name"], path)
    try:
        networks.build(read(ClassifierConfig, stored, complete=False))
    except UserError as error:
        raise UserError(f"{path} cannot be read: {str(error).rstrip('.')}.") from error
    return stored
