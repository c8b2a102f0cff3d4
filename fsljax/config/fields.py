"""Fields of a config section, each with a type, a default, bounds and a meaning.

A section is a frozen dataclass whose fields are made by `field` and `section`; `fsljax.config.reading`
creates it from the values of a config file, and checks it once.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from fsljax.errors import UserError

SEEDS = 2**32
LARGEST = 2**31 - 1  # of whole numbers that say nothing else: counters of compiled code have 32 bits
MOST_UNITS = 2**14  # of a layer
MOST_PIXELS = 2**14  # a side
MOST_IN_A_STEP = 10**5  # classes, images or regions
MOST_ROUNDS = 10**9  # steps, episodes
_FLOATS = (1e-15, 1e30)  # nearer to 0 a square's inverse, and beyond it a product, leaves float32's range
_FACTORS = (1e-38, 3e38)  # float32's range
_SHOWN = 100  # characters of a value in a sentence
_NOUNS = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "text"}


@dataclass(frozen=True)
class Bounds:
    """Allowed values of a field, or of each element of a tuple.

    Attributes:
      least, above: `value >= least`, `value > above`.
      most, below: `value <= most`, `value < below`.
      cap: `value <= cap`, far beyond any useful value; only mentioned if a value exceeds it.
      choices: the only values; None: any.
      empty: whether a tuple may be empty.
      factor: whether any float32 number is allowed; its effect on training is checked during training.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    cap: float | None = None
    choices: tuple[object, ...] | None = None
    empty: bool = True
    factor: bool = False

    def hold(self, value: float) -> bool:
        """Whether a number is within bounds; NaN, infinities and numbers that overflow float32 never are."""
        return self.is_representable(value) and (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
            and (self.cap is None or value <= self.cap)
        )

    def is_representable(self, value: float) -> bool:
        """Whether compiled code can represent the value; divisors must not underflow to 0."""
        if isinstance(value, numbers.Integral):
            return abs(value) <= (LARGEST if self.below is None else SEEDS)
        smallest, largest = _FACTORS if self.factor else _FLOATS
        if self.above == 0 and 0 < value < smallest:
            return False
        return math.isfinite(value) and abs(value) <= largest

    def sentence(self, value: float) -> str:
        """The requirement that a number out of bounds violates, for error messages."""
        if self.below == SEEDS and value >= SEEDS:
            return "it must be below 2^32"
        if self.below == SEEDS:
            return f"it must be {self.least} or more"
        if self.cap is not None and self.cap < value < math.inf:
            return f"it must be {self.cap} or less"
        smallest, largest = _FACTORS if self.factor else _FLOATS
        unbounded = self == Bounds(cap=self.cap, choices=self.choices, empty=self.empty, factor=self.factor)
        if isinstance(value, numbers.Integral):
            if value > LARGEST and self.most is None:
                return f"it must be {LARGEST} or less"
            if unbounded:
                return f"it must be {-LARGEST} or more"
        elif math.isinf(value) or (unbounded and not math.isfinite(value)):
            return "it must be a finite number"
        elif unbounded or abs(value) > largest or 0 < abs(value) < smallest:
            return f"it must be at most {largest:g} in magnitude, and not closer to 0 than {smallest:g}"
        if self.least is not None and self.below is not None:
            return f"it must be at least {self.least} and below {self.below}"
        if self.least is not None and self.most is not None:
            return f"it must be from {self.least} to {self.most}"
        if self.above is not None and self.below is not None:
            return f"it must be between {self.above} and {self.below}"
        if self.above is not None and self.most is not None:
            return f"it must be above {self.above} and at most {self.most}"
        if self.above is not None:
            return f"it must be above {self.above}"
        if self.least is not None:
            return f"it must be {self.least} or more"
        return (
            f"it must be {self.most} or less" if self.most is not None else f"it must be below {self.below}"
        )


def field(
    default: object,
    meaning: str,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    cap: float | None = None,
    choices: Sequence[object] | None = None,
    empty: bool = True,
    factor: bool = False,
    free: bool = False,
) -> Any:
    """Defines a field of a section.

    Args:
      default: its value if a config does not set it.
      meaning: its description, with its unit.
      least, above, most, below, cap, choices, empty, factor: as in `Bounds`.
      free: the field does not affect training, and may change when a run is resumed.
    """
    bounds = Bounds(
        least, above, most, below, cap, None if choices is None else tuple(choices), empty, factor
    )
    return dataclasses.field(default=default, metadata={"meaning": meaning, "bounds": bounds, "free": free})


def seed(default: int, meaning: str) -> Any:
    """Defines a field with a 32-bit random seed."""
    return field(default, meaning, least=0, below=SEEDS)


def section(kind: type, *, free: bool = False, **defaults: object) -> Any:
    """Defines a field that is itself a section, optionally with other defaults; `free` as in `field`."""
    return dataclasses.field(default_factory=lambda: kind(**defaults), metadata={"free": free})


@cache
def types_of(kind: type) -> dict[str, type]:
    """The type of each field of a section."""
    return typing.get_type_hints(kind)


def checked(name: str, value: object, kind: type, bounds: Bounds) -> object:
    """Validates the type and bounds of a value and returns it; a list becomes a tuple.

    Raises:
      UserError: if the type is wrong or the value out of bounds; the message says what it must be.
    """
    if typing.get_origin(kind) is tuple:
        return _checked_tuple(name, value, typing.get_args(kind), bounds)
    if isinstance(kind, types.UnionType):
        raise TypeError(
            f"config.{name} has the type {kind}: give it a single type, and let one of its "
            "values mean that it is unset."
        )
    if not _is_of(value, kind):
        if bounds.choices is not None:
            raise UserError(f"config.{name} is {shown(value)}; it can be {_listed(bounds.choices)}.")
        raise UserError(f"config.{name} is {shown(value)}; it must be {_NOUNS[kind]}.")
    if isinstance(value, str) and "\0" in value:
        raise UserError(f"config.{name} is {shown(value)}; text must not contain the null character.")
    _check_bounds(name, value, value, bounds)
    return value


def _checked_tuple(name: str, value: object, kinds: Sequence[object], bounds: Bounds) -> tuple[object, ...]:
    element = kinds[0]
    assert isinstance(element, type)
    if not isinstance(value, tuple | list):
        raise UserError(f"config.{name} is {shown(value)}; it must hold {_PLURALS[element]}, in parentheses.")
    if not value and not bounds.empty:
        raise UserError(
            f"config.{name} is empty; it needs at least one {'name' if element is str else 'number'}."
        )
    for one in value:
        if isinstance(one, str) and "\0" in one:
            raise UserError(f"config.{name} is {shown(value)}; text must not contain the null character.")
        if not _is_of(one, element):
            raise UserError(f"config.{name} is {shown(value)}; it must hold {_PLURALS[element]}.")
        _check_bounds(name, one, value, bounds)
    if kinds[-1] is not Ellipsis and len(value) != len(kinds):
        raise UserError(f"config.{name} is {shown(value)}; it must hold {len(kinds)} {_PLURALS[element]}.")
    return tuple(value)


def _check_bounds(name: str, one: object, value: object, bounds: Bounds) -> None:
    """Raises a UserError if one of a field's values is out of bounds."""
    if bounds.choices is not None and one not in bounds.choices:
        raise UserError(f"config.{name} is {shown(value)}; it can be {_listed(bounds.choices)}.")
    if isinstance(one, numbers.Real) and not isinstance(one, bool) and not bounds.hold(_plain(one)):
        raise UserError(f"config.{name} is {shown(value)}; {bounds.sentence(_plain(one))}.")


def _is_of(value: object, kind: type) -> bool:
    if kind is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return isinstance(value, kind)


def _plain(number: numbers.Real) -> float:
    """A whole number as it is, however large; any other as a float."""
    return int(number) if isinstance(number, numbers.Integral) else float(number)


def shown(value: object) -> str:
    """The repr of a value, shortened for error messages."""
    try:
        text = repr(value)
    except Exception:  # of a number with too many digits, or of whatever a config holds
        return f"of type {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _listed(choices: Sequence[object]) -> str:
    return ", ".join(map(repr, choices))
