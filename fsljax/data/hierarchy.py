"""Merges classes into coarse ones, to test whether training on these distinguishes the fine ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from fsljax.data.class_split import seeded_order
from fsljax.data.dataset import ImageDataset, Splits, take_classes
from fsljax.errors import UserError

_OF_ALPHABET = re.compile(r"/character\d+(?=/|$)")


def unite(splits: Splits, how: str, seed: int) -> Splits:
    """Merges classes of splits that share them; the original classes are kept as fine labels.

    Args:
      splits: splits with the same `class_names`.
      how: "pairs": random pairs of classes, with one left single if their number is odd; or "alphabets":
        classes whose names have the same prefix before the first "/".
      seed: another seed gives other pairs.

    Returns:
      The same images. A pair is named "FIRST + SECOND"; coarse classes are ordered by their first fine class.

    Raises:
      UserError: if fewer than two classes would be left.
    """
    parents = {"pairs": lambda names: _pairs(names, seed), "alphabets": _alphabets}[how]
    return replace(
        splits,
        train=_unite(splits.train, parents),
        validation=_unite(splits.validation, parents),
        test=_unite(splits.test, parents),
    )


def groups(names: Sequence[str]) -> list[str]:
    """The group of each class, from its name: an alphabet with its rotation and mirroring, or a folder.

    `Greek/character01/rot090` belongs to `Greek/rot090`; for other data sets, the group is the part of the
    name before the last "/", or "" without one.
    """
    return [
        _OF_ALPHABET.sub("", name) if _OF_ALPHABET.search(name) else name.rpartition("/")[0] for name in names
    ]


def choose_classes(splits: Splits, count: int, seed: int) -> Splits:
    """Keeps `count` of the classes that the splits share, chosen by a seeded rule.

    Raises:
      UserError: if there are fewer.
    """
    names = splits.train.class_names
    if count > len(names):
        raise UserError(
            f"config.data.max_classes is {count:,}, but there are {len(names):,} classes: give fewer, or 0 "
            "for all."
        )
    chosen = np.isin(names, seeded_order(names, seed)[:count])
    return replace(
        splits,
        train=take_classes(splits.train, chosen),
        validation=take_classes(splits.validation, chosen),
        test=take_classes(splits.test, chosen),
    )


def _unite(part: ImageDataset, parents: Callable[[Sequence[str]], list[str]]) -> ImageDataset:
    parent_of = parents(part.class_names)
    names = tuple(dict.fromkeys(parent_of))
    if len(names) < 2:
        raise UserError(
            f"config.data.merge would merge all {len(parent_of)} classes into one: give more "
            "classes, or do not merge."
        )
    coarse = np.array([names.index(name) for name in parent_of], np.int32)
    return replace(
        part,
        labels=coarse[part.labels],
        class_names=names,
        fine_labels=part.labels,
        fine_class_names=part.class_names,
    )


def _pairs(names: Sequence[str], seed: int) -> list[str]:
    # Other hashes than those that choose classes: who is paired must not follow from who is chosen.
    ordered = [key.removeprefix("pair/") for key in seeded_order([f"pair/{name}" for name in names], seed)]
    place = {name: index for index, name in enumerate(names)}
    pair_of: dict[str, str] = {}
    for first in range(0, len(ordered), 2):
        pair = sorted(ordered[first : first + 2], key=place.__getitem__)
        pair_of |= dict.fromkeys(pair, " + ".join(pair))
    return [pair_of[name] for name in names]


def _alphabets(names: Sequence[str]) -> list[str]:
    return [name.split("/")[0] for name in names]
