"""Test and validation episodes of a data set: whether it can give them, and their drawing."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.data import hierarchy
from fsljax.data.dataset import ImageDataset
from fsljax.data.samplers.episodes import (
    ClassTable,
    Episodes,
    Groups,
    class_table,
    draw_episodes,
    groups_of,
)
from fsljax.errors import UserError
from fsljax.evaluation.episodic import Setting


def sample(
    key: jax.Array, data: ImageDataset, setting: Setting, count: int, *, within_alphabet: float = 0.0
) -> Episodes:
    """Draws `count` episodes of a setting from a data set.

    Args:
      key: a JAX random key.
      data: images and their classes.
      setting: of the episodes.
      count: how many.
      within_alphabet: share of them whose classes are of one group; see `class_groups`.

    Returns:
      `Episodes` of NumPy arrays, `images` `[count, way, shot + queries]`.

    Raises:
      UserError: if the data set has too few classes or images.
    """
    check_setting(data, setting)
    groups = class_groups(data, setting.way, within_alphabet)
    table, groups = jax.tree.map(jnp.asarray, (class_table(data.labels), groups))
    drawn = _draw(key, table, groups, setting, count)
    return Episodes(np.asarray(drawn.classes), np.asarray(drawn.images))


@partial(jax.jit, static_argnames=("setting", "count"))
def _draw(key: jax.Array, table: ClassTable, groups: Groups | None, setting: Setting, count: int) -> Episodes:
    return draw_episodes(
        key, table, count, way=setting.way, shot=setting.shot, queries=setting.queries, groups=groups
    )


def class_groups(
    data: ImageDataset, way: int, share: float, *, part: str = "test", where: str = "eval"
) -> Groups | None:
    """The groups of `data.class_names` that can give episodes of `way` classes; None if `share` is 0.

    Raises:
      UserError: if none can.
    """
    if not share:
        return None
    names = hierarchy.groups(data.class_names)
    known = list(dict.fromkeys(names))
    if known == [""]:
        raise UserError(
            f"config.{where}.within_alphabet is {share:g}, but the classes of the {part} split have names "
            f"without groups, such as {data.class_names[0]!r}: name them GROUP/CLASS, or set it to 0."
        )
    labels = np.array([known.index(name) for name in names], np.int32)
    counts = np.bincount(labels)
    largest, size = int(np.argmax(counts)), int(np.max(counts))
    if size < way:
        raise UserError(
            f"config.{where}.within_alphabet is {share:g}, but no alphabet of the {part} split has {way} "
            f"classes: {known[largest]!r} has the most, {size}. Lower config.{where}.way to {size} or less."
        )
    return groups_of(labels, way=way, share=share)


def check_setting(data: ImageDataset, setting: Setting, *, part: str = "test", where: str = "eval") -> None:
    """Raises a UserError if `data` cannot give episodes of this setting."""
    # The test is the only part with several settings, and its fields are named so.
    plural = "s" if where == "eval" else ""
    way, shot, queries = (
        f"config.{where}.way{plural}",
        f"config.{where}.shot{plural}",
        f"config.{where}.queries",
    )
    for name, value in ((way, setting.way), (shot, setting.shot), (queries, setting.queries)):
        if value < 1:
            raise UserError(f"{name} is {value}; it must be 1 or more.")
    if setting.way < 2:
        raise UserError(f"{way} is 1; an episode needs at least two classes.")
    if setting.way > data.num_classes:
        raise UserError(
            f"{setting.way}-way episodes need {setting.way} classes, but the {part} split has "
            f"{data.num_classes}: lower {way} to {data.num_classes} or less, or give more classes."
        )
    counts = data.class_counts()
    need = setting.shot + setting.queries
    if np.min(counts) < need:
        smallest = int(np.argmin(counts))
        raise UserError(
            f"shot {setting.shot} + queries {setting.queries} need {need} images per class, but "
            f"{data.class_names[smallest]!r} in the {part} split has {counts[smallest]}: lower {shot} or "
            f"{queries}, or give that class more images."
        )
