"""Test and validation episodes of a data set: whether it can give them, and their drawing."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.data.dataset import ImageDataset
from fsljax.data.samplers.episodes import ClassTable, Episodes, class_table, draw_episodes
from fsljax.errors import UserError
from fsljax.evaluation.episodic import Setting


def sample(key: jax.Array, data: ImageDataset, setting: Setting, count: int) -> Episodes:
    """Draws `count` episodes of a setting from a data set.

    Returns:
      `Episodes` of NumPy arrays, `images` `[count, way, shot + queries]`.

    Raises:
      UserError: if the data set has too few classes or images.
    """
    check_setting(data, setting)
    drawn = _draw(key, jax.tree.map(jnp.asarray, class_table(data.labels)), setting, count)
    return Episodes(np.asarray(drawn.classes), np.asarray(drawn.images))


@partial(jax.jit, static_argnames=("setting", "count"))
def _draw(key: jax.Array, table: ClassTable, setting: Setting, count: int) -> Episodes:
    return draw_episodes(key, table, count, way=setting.way, shot=setting.shot, queries=setting.queries)


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
        raise UserError(f"{way} is 1; an episode needs two classes to tell apart.")
    if setting.way > data.num_classes:
        raise UserError(
            f"{setting.way}-way episodes need {setting.way} classes, but the {part} part has "
            f"{data.num_classes}: lower {way} to {data.num_classes} or less, "
            "or give more classes."
        )
    counts = data.class_counts()
    need = setting.shot + setting.queries
    if np.min(counts) < need:
        smallest = int(np.argmin(counts))
        raise UserError(
            f"shot {setting.shot} + queries {setting.queries} need {need} images of a class, but "
            f"{data.class_names[smallest]!r} in the {part} part has {counts[smallest]}: "
            f"lower {shot} or {queries}, or give that class more images."
        )
