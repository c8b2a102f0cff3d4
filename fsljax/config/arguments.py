"""What stands on a command line, before its flags are parsed."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import reduce

from ml_collections import ConfigDict

from fsljax.config import shipped


def flag_name(argument: str) -> str:
    """The name of the flag that an argument is; empty where it is none."""
    dashes = len(argument) - len(argument.lstrip("-"))
    return argument.lstrip("-").partition("=")[0] if dashes in (1, 2) else ""


def config_paths(argv: Sequence[str]) -> list[str]:
    """Every value that is given to `--config`; empty where it is missing."""
    paths = []
    for position, argument in enumerate(argv):
        if flag_name(argument) == "config":
            following = argv[position + 1] if position + 1 < len(argv) else ""
            paths.append(
                argument.partition("=")[2] if "=" in argument else ("" if following[:1] == "-" else following)
            )
    return paths


def with_paths(argv: Sequence[str]) -> list[str]:
    """The arguments, with the path of a shipped config where `--config` names one."""
    given = []
    for before, argument in zip(["", *argv], argv, strict=False):
        if flag_name(argument) == "config" and "=" in argument:
            argument = f"--config={shipped.located(argument.partition('=')[2])}"
        elif flag_name(before) == "config" and "=" not in before:
            argument = shipped.located(argument)
        given.append(argument)
    return given


def with_names(argv: Sequence[str], config: ConfigDict) -> list[str]:
    """The arguments, with names such as cat,dog as the tuple ('cat', 'dog') for fields that hold names."""
    given = []
    for before, argument in zip(["", *argv], argv, strict=False):
        flag, equals, value = argument.partition("=") if _sets_field(argument) else ("", "", argument)
        field = flag_name(flag) if equals or argument[:1] == "-" else flag_name(before)
        if _are_bare_names(value) and _holds_names(config, field.removeprefix("config.")):
            value = str(tuple(name.strip() for name in value.split(",")))
        given.append(f"{flag}{equals}{value}")
    return given


def _sets_field(argument: str) -> bool:
    return "=" in argument and flag_name(argument).startswith("config.")


def _are_bare_names(value: str) -> bool:
    """Whether these are names between commas, or one with a space, without quotes and parentheses."""
    if not all(name.strip() for name in value.split(",")) or set("()[]{}'\"") & set(value):
        return False
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return True
    return False


def _holds_names(config: ConfigDict, field: str) -> bool:
    """Whether a field is a tuple of text; an empty one may be."""
    try:
        value = reduce(getattr, field.split("."), config)
    except AttributeError:
        return False
    return isinstance(value, tuple) and all(isinstance(name, str) for name in value)


def set_fields(argv: Sequence[str]) -> set[str]:
    """Dotted names of the fields of the config that the command line sets."""
    names = (flag_name(argument).removeprefix("no") for argument in argv[1:])
    return {name.removeprefix("config.") for name in names if name.startswith("config.")}


def is_unordered(argument: str) -> bool:
    """Whether it is a set or a dict, of which a tuple would be made all the same."""
    return flag_name(argument).startswith("config.") and argument.partition("=")[2][:1] == "{"
