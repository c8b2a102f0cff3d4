"""Odd values in the fields of every method's config: each is refused in a sentence, at once."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import random
import signal
import sys
import threading
import typing
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from fsljax import methods
from fsljax.config.fields import types_of
from fsljax.errors import UserError

pytestmark = pytest.mark.campaign

METHODS = ("protonet", "magnet", "softmax", "triplet", "repmet", "repmet_detector")
SECONDS = 20  # no check may take longer, even on a busy machine

# Of no field a value, whatever its type.
NEVER: tuple[Callable[[], Any], ...] = (
    lambda: None,
    lambda: math.nan,
    lambda: math.inf,
    lambda: -math.inf,
    lambda: (math.nan,),
    lambda: [None],
    lambda: ConfigDict({"a": 1}),
    dict,
    object,
    lambda: b"bytes",
    lambda: 1j,
    lambda: np.zeros(2),
    lambda: "\0",
)
# Of fields of these types none.
NOT_OF_TYPE: dict[object, tuple[Any, ...]] = {
    int: (True, 2.5, "text", (), (1,), -1, 10**12, 10**400, 10**6000),
    float: ("text", (), (1.0,), 1e300, -1e300, 10**6000, False, np.bool_(True)),
    bool: (0, 1, "True", "", (), 1.0),
    str: (5, True, 1.5, ("a",), ("",), 10**400),
    tuple: (5, True, "text", 1.5, ((1,),), (10**400,), ("a", 1), (True,), {1: 2}),
}
# Values that some fields have and others not: what is not refused must come back within bounds.
SOMETIMES = (0, 1, -1, 2, 1.0, 0.5, -0.5, 1e-300, 1e-20, 1e6, "", "a/b", "é", (), (1,), (1, 1),
             (0.0, 1.0), (2.0, 1.0), (0.5, 0.25, 0.25), ("x",), True, False, 2**31, 2**31 - 1, 10**9,
             "all", "sgd")  # fmt: skip
TEXTS = ("nan", "inf", "-inf", "None", "True", "()", "(1,)", "('a', 1)", "[]", "{}", "1e999", "-1", "text",
         "", "1" * 400, "(((((1)))))", "'", "(", "1_0", "0x10", "é", "a\tb")  # fmt: skip


@cache
def default(method: str) -> ConfigDict:
    module = methods._module(method)
    config = module.default_config()
    if method == "repmet_detector":
        config.network.name, config.proposals.sizes = "scene_net", (16.0, 24.0, 32.0, 48.0)
    elif method != "protonet":
        config.data.split_by = "examples"
    methods.check(config)
    return config


@cache
def fields(method: str) -> tuple[tuple[str, object], ...]:
    """Dotted names and types of all fields."""

    def of_section(kind: type, prefix: str) -> Iterator[tuple[str, object]]:
        for entry in dataclasses.fields(kind):
            inner = types_of(kind)[entry.name]
            if dataclasses.is_dataclass(inner):
                yield from of_section(typing.cast(type, inner), f"{prefix}{entry.name}.")
            else:
                yield prefix + entry.name, typing.get_origin(inner) or inner

    return tuple(of_section(methods._module(method).Config, ""))


def values(method: str) -> dict[str, Any]:
    """The default's values in plain dicts, which take any other."""
    return copy.deepcopy(default(method).to_dict())


def put(config: dict[str, Any], name: str, value: object) -> None:
    *sections, last = name.split(".")
    for section in sections:
        config = config[section]
    config[last] = value


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Fails where it takes too long, as no pytest plugin need be there to do."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def late(*_: object) -> None:
        raise AssertionError(f"No answer within {SECONDS} seconds.")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check(config: dict[str, Any]) -> str | None:
    """The sentence by which a config is refused, or None; any other error fails the test."""
    with at_once():
        try:
            methods.check(typing.cast(ConfigDict, config))
        except UserError as error:
            sentence = str(error)
            assert sentence.strip().endswith((".", "?", "own.")) and len(sentence) < 1500, sentence
            return sentence
    return None


@pytest.mark.parametrize("method", METHODS)
def test_no_field_takes_what_is_of_no_meaning_to_it(method: str, rounds):
    names = fields(method)
    for seed in rounds(4):
        name, kind = names[seed * 37 % len(names)]
        for value in (*(make() for make in NEVER), *NOT_OF_TYPE[kind]):
            config = values(method)
            put(config, name, value)
            assert check(config) is not None, f"config.{name} may be {value!r:.100}"


@pytest.mark.parametrize("method", METHODS)
def test_two_fields_at_odds_are_refused_in_words_or_taken(method: str, rounds):
    names = fields(method)
    for seed in rounds(5):
        generator = random.Random(seed)
        for _ in range(5):
            config = values(method)
            for name, _kind in generator.sample(names, 2):
                put(config, name, generator.choice(SOMETIMES))
            check(config)


@pytest.mark.parametrize("method", METHODS)
def test_config_dicts_with_an_odd_value_are_refused_in_words_or_taken(method: str, rounds):
    """As config files make them: `ml_collections` itself refuses some and converts others."""
    for seed in rounds(4):
        generator = random.Random(seed)
        config = copy.deepcopy(default(method))
        name, _ = generator.choice(fields(method))
        *sections, last = name.split(".")
        section = config
        for part in sections:
            section = section[part]
        with contextlib.suppress(TypeError, ValueError, OverflowError), section.ignore_type():
            section[last] = generator.choice([make() for make in NEVER] + [*SOMETIMES])
        check(typing.cast(dict, config))


@pytest.mark.parametrize("method", METHODS)
def test_text_of_the_command_line_is_refused_in_words_or_taken(
    method: str, rounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "config.py"
    file.write_text(f"from fsljax.methods import {method}\nget_config = {method}.default_config\n")
    for seed in rounds(4):
        generator = random.Random(seed)
        name, _ = generator.choice(fields(method))
        argv = ["launch.py", f"--config={file}", f"--config.{name}={generator.choice(TEXTS)}"]
        given = flags.FlagValues()
        config_flags.DEFINE_config_file("config", flag_values=given)
        monkeypatch.setattr(sys, "argv", argv)
        # What the command line tells in a sentence of its own.
        with contextlib.suppress(flags.Error, TypeError, ValueError, AttributeError, KeyError):
            given(argv)
            check(given.config)
