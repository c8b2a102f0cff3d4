"""Converts the values of a config file or workdir to typed sections, and back."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ml_collections import ConfigDict
from ml_collections.config_dict import RequiredValueError

from fsljax.config.fields import Bounds, checked, shown, types_of
from fsljax.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from typing_extensions import TypeIs

Kind = TypeVar("Kind", bound="DataclassInstance")
Values = Mapping[str, object]
"""Values by name; sections are nested mappings."""


def read(kind: type[Kind], values: ConfigDict | Values, *, complete: bool = True) -> Kind:
    """Reads a config or a section from values.

    Args:
      kind: the dataclass to return.
      values: values by name; sections are nested mappings.
      complete: all fields must be present, and no others. If False, missing fields have their defaults, and
        unknown ones are skipped, so that values stored by other versions can be read.

    Raises:
      UserError: if a field is unknown (the closest one is named), missing, of the wrong type or out of
        bounds.
    """
    given = as_mapping(values)
    if complete:
        _check_names(kind, given)
    return _read(kind(), given, "")


def config_dict(config: DataclassInstance) -> ConfigDict:
    """The values of a config as used in config files: fields can be changed, but none added."""
    return ConfigDict(_values(config)).lock()


def plain(config: DataclassInstance | ConfigDict | Values) -> dict[str, Any]:
    """The values of a config or a section as in JSON: tuples become lists."""
    given = _values(config) if _is_section(config) else as_mapping(config)
    return {
        name: plain(value)
        if isinstance(value, Mapping)
        else (list(value) if isinstance(value, tuple) else value)
        for name, value in given.items()
    }


def flat(values: Values, prefix: str = "") -> dict[str, object]:
    """Values by their dotted names, such as "train.steps"."""
    flattened: dict[str, object] = {}
    for name, value in values.items():
        flattened |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flattened


def field_names(kind: type[DataclassInstance], prefix: str = "") -> list[str]:
    """Dotted names of all fields and sections of a config."""
    names = []
    for entry, inner in _fields(kind):
        names.append(prefix + entry.name)
        if inner is not None:
            names += field_names(inner, f"{prefix}{entry.name}.")
    return names


def free_names(kind: type[DataclassInstance], prefix: str = "") -> list[str]:
    """Dotted names of the fields and sections of a config that may differ when a run is resumed."""
    names = []
    for entry, inner in _fields(kind):
        if entry.metadata.get("free"):
            names.append(prefix + entry.name)
        elif inner is not None:
            names += free_names(inner, f"{prefix}{entry.name}.")
    return names


def nearest(name: str, known: list[str]) -> str:
    """ " Did you mean …?" with the nearest of the known names; empty where none is near."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f" Did you mean {near[0]}?" if near else ""


def as_mapping(values: object) -> Values:
    """The values of a config as plain dicts."""
    if isinstance(values, ConfigDict):
        try:
            return dict(values.to_dict())
        except RequiredValueError as error:
            raise UserError(f"The config has a field without a value: {error}") from None
    if not isinstance(values, Mapping):
        raise UserError(f"The config holds {shown(values)} where a section of named fields is expected.")
    return values


def _values(config: DataclassInstance) -> dict[str, object]:
    return {
        entry.name: _values(value) if _is_section(value) else value
        for entry in dataclasses.fields(config)
        for value in [getattr(config, entry.name)]
    }


def _is_section(value: object) -> TypeIs[DataclassInstance]:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _fields(
    kind: type[DataclassInstance],
) -> Iterator[tuple[dataclasses.Field[object], type[DataclassInstance] | None]]:
    """The fields of a section, each with the section that it is, or None."""
    for entry in dataclasses.fields(kind):
        inner = types_of(kind)[entry.name]
        yield entry, inner if dataclasses.is_dataclass(inner) else None


def _read(default: Kind, given: Values, prefix: str) -> Kind:
    """A section of the values given, and of the default's where there are none."""
    values: dict[str, Any] = {}
    for entry, inner in _fields(type(default)):
        name, before = prefix + entry.name, getattr(default, entry.name)
        if entry.name not in given:
            values[entry.name] = before
            continue
        value = given[entry.name]
        if inner is None:
            bounds = entry.metadata.get("bounds", Bounds())
            values[entry.name] = checked(name, value, types_of(type(default))[entry.name], bounds)
        elif isinstance(value, Mapping):
            values[entry.name] = _read(before, value, f"{name}.")
        else:
            raise UserError(f"config.{name} is {shown(value)}; it must be a section with fields of its own.")
    return type(default)(**values)


def _check_names(kind: type[DataclassInstance], given: Values) -> None:
    """Raises a UserError unless exactly the fields of a config are there."""
    known, method = field_names(kind), given.get("method")
    values = dict(_walk(given))
    names, sections = list(values), [name for name, value in values.items() if isinstance(value, Mapping)]
    for name in names:
        if name not in known:
            raise UserError(f"Unknown field config.{name} of the method {method!r}.{nearest(name, known)}")
    # Of a section that is none, `_read` tells.
    missing = [name for name in known if name not in names and name.rpartition(".")[0] in ("", *sections)]
    if missing:
        raise UserError(
            f"config.{missing[0]} is missing: start get_config() with "
            f"fsljax.methods.{method}.default_config()."
        )


def _walk(given: Values, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in given.items():
        yield f"{prefix}{name}", value
        if isinstance(value, Mapping):
            yield from _walk(value, f"{prefix}{name}.")
