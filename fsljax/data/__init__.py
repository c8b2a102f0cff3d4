"""Data sources, class splits, episodes and augmentation."""

from __future__ import annotations

from types import ModuleType

from fsljax.config import Experiment, modules
from fsljax.data import hierarchy
from fsljax.data.dataset import ImageDataset, Splits, merge
from fsljax.errors import UserError

__all__ = ["ImageDataset", "Splits", "find_source", "load", "merge"]


def find_source(name: str) -> ModuleType:
    """The module of a data source.

    Raises:
      UserError: if there is no source of this name.
    """
    return modules.find("fsljax.data.sources", name, field="data.name", needs=("load",))


def load(config: Experiment) -> Splits:
    """Loads the data source that `config.data` names, a module with `load(data) -> Splits`.

    Raises:
      UserError: if there is no such module, its data are missing or unsuitable, or the number of channels
        differs; the message says what to do.
    """
    data = config.data
    splits: Splits = find_source(data.name).load(data)
    channels = splits.train.images.shape[-1]
    if channels != data.channels:
        raise UserError(
            f"config.data.channels is {data.channels}, but the images of {data.name} have "
            f"{channels}: set --config.data.channels={channels}."
        )
    if data.max_classes:
        splits = hierarchy.choose_classes(splits, data.max_classes, data.split_seed)
    return hierarchy.unite(splits, data.merge, data.split_seed) if data.merge else splits
