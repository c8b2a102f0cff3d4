"""Data sources, class splits, episodes and augmentation."""

from __future__ import annotations

from ml_collections import ConfigDict

from fsljax.data.dataset import ImageDataset, Splits, merge
from fsljax.errors import UserError

__all__ = ["ImageDataset", "Splits", "load", "merge"]


def load(config: ConfigDict) -> Splits:
    """Loads what `config.data` names.

    Raises:
      UserError: if the data are missing or unfit, or have other channels, saying what to do.
    """
    splits = _load(config)
    channels = splits.train.images.shape[-1]
    if channels != config.data.channels:
        raise UserError(
            f"config.data.channels is {config.data.channels}, but the images of {config.data.name} have "
            f"{channels}: set --config.data.channels={channels}."
        )
    return splits


def _load(config: ConfigDict) -> Splits:
    # Imported where used: each source brings libraries that take seconds to import.
    data = config.data
    if data.name == "glyphs":
        from fsljax.data import glyphs

        return glyphs.load(image_size=data.image_size, seed=data.split_seed)
    if data.name == "omniglot":
        from fsljax.data import omniglot

        return omniglot.load(data_dir=data.data_dir or None, image_size=data.image_size)
    if data.name == "tiny_imagenet":
        from fsljax.data import tiny_imagenet

        return tiny_imagenet.load(
            data_dir=data.data_dir or None, image_size=data.image_size, seed=data.split_seed
        )
    from fsljax.data import folder

    if not data.path:
        raise UserError("config.data.path is empty: give the folder of images, --config.data.path=DIR.")
    return folder.load(
        data.path,
        image_size=data.image_size,
        channels=data.channels,
        fractions=tuple(data.fractions),
        seed=data.split_seed,
    )
