"""What the fields of a config mean, for `--help`."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_NAME_COLUMN = 44


class Described(NamedTuple):
    """A field: its dotted name, its value, and its meaning with what it can be."""

    name: str
    value: object
    meaning: str


def describe(config: DataclassInstance, prefix: str = "") -> Iterator[Described]:
    """All fields of a config, section by section."""
    for entry in dataclasses.fields(config):
        name, value = prefix + entry.name, getattr(config, entry.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from describe(value, f"{name}.")
        else:
            yield Described(name, value, _meaning(entry))


def as_text(config: DataclassInstance, *, width: int = 110) -> str:
    """A line, or more, for each field: `--config.NAME=VALUE`, then its meaning."""
    lines = []
    for name, value, meaning in describe(config):
        # As a shell takes it: text without quotes, a tuple in them.
        shown = f'"{value}"' if isinstance(value, tuple) else value
        flag = f"  --config.{name}={shown}".ljust(_NAME_COLUMN)
        lines += textwrap.wrap(
            meaning, width, initial_indent=f"{flag}  ", subsequent_indent=" " * (_NAME_COLUMN + 2)
        ) or [flag.rstrip()]
    return "\n".join(lines)


def _meaning(entry: dataclasses.Field[object]) -> str:
    meaning = str(entry.metadata.get("meaning", ""))
    bounds = entry.metadata.get("bounds")
    choices = None if bounds is None else bounds.choices
    return meaning if choices is None else f"{meaning} ({' | '.join(map(repr, choices))})"
