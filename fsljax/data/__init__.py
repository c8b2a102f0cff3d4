"""Data sources, class splits, episodes and augmentation."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from fsljax.data import hierarchy
from fsljax.data.dataset import ImageDataset, Splits, merge
from fsljax.data.image_sets import IMAGE_SETS
from fsljax.errors import UserError

__all__ = ["ImageDataset", "Splits", "load", "merge"]


def load(config: ConfigDict) -> Splits:
    """Loads what `config.data` names, divided as it says.

    Raises:
      UserError: if the data are missing or unfit, or have other channels, saying what to do.
    """
    data = config.data
    splits = _load(data)
    channels = splits.train.images.shape[-1]
    if channels != data.channels:
        raise UserError(
            f"config.data.channels is {data.channels}, but the images of {data.name} have "
            f"{channels}: set --config.data.channels={channels}."
        )
    if data.max_classes:
        splits = hierarchy.choose_classes(splits, data.max_classes, data.split_seed)
    return hierarchy.unite(splits, data.merge, data.split_seed) if data.merge else splits


def _load(data: ConfigDict) -> Splits:
    # Imported where used: each source brings libraries that take seconds to import.
    shared_classes = data.split_by == "examples"
    division: dict[str, Any] = {"shared_classes": shared_classes, "fractions": tuple(data.fractions)}
    if data.name == "glyphs":
        from fsljax.data.sources import glyphs

        return glyphs.load(image_size=data.image_size, seed=data.split_seed, **division)
    if data.name == "omniglot":
        from fsljax.data.sources import omniglot

        return omniglot.load(data_dir=data.data_dir or None, image_size=data.image_size, **division)
    if data.name == "tiny_imagenet" and not shared_classes:
        from fsljax.data.sources import tiny_imagenet

        return tiny_imagenet.load(
            data_dir=data.data_dir or None, image_size=data.image_size, seed=data.split_seed
        )
    if data.name in IMAGE_SETS:
        from fsljax.data import tfds_images

        return tfds_images.load(
            data.name,
            data_dir=data.data_dir or None,
            image_size=data.image_size,
            channels=data.channels,
            validation_fraction=data.validation_fraction,
            seed=data.split_seed,
            host_budget_gb=data.host_budget_gb,
            **division,
        )
    from fsljax.data.sources import folder

    if not data.path:
        raise UserError("config.data.path is empty: give the folder of images, --config.data.path=DIR.")
    return folder.load(
        data.path, image_size=data.image_size, channels=data.channels, seed=data.split_seed, **division
    )
