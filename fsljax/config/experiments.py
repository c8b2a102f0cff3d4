"""Experiments by their names: files in configs/, and the arguments of a file that holds several."""

from __future__ import annotations

import ast
import contextlib
import inspect
import runpy
import traceback
from collections.abc import Callable, Collection
from pathlib import Path

from ml_collections import ConfigDict

from fsljax.config import shipped
from fsljax.config.reading import nearest
from fsljax.errors import UserError, first_few

OF_WEIGHTS = ("network.name", "network.padding", "network.input_mean", "network.input_std")
"""For `config.network.unless_described`: what a config says of a backbone, and its weights may say better."""
OF_WEIGHTS_AND_SIZE = (*OF_WEIGHTS, "data.image_size")


def choose(name: str, experiments: Collection[str], file: str) -> str:
    """The argument of a config file that holds several experiments.

    Args:
      name: what follows the colon in `--config=configs/FILE.py:NAME`; empty where there is none.
      experiments: all that there are; the file calls them `EXPERIMENTS`, which is how `names` knows them. One
        named "" is the file's without an argument.
      file: `__file__` of the config file.

    Returns:
      the name.

    Raises:
      UserError: there is none of this name; the nearest one and the first few are named.
    """
    if name in experiments:
        return name
    path = Path(file).stem if shipped.is_shipped(Path(file)) else "/".join(Path(file).parts[-2:])
    named = list(filter(None, experiments))
    listed = f"{first_few(named)}{f'; {shipped.LISTING}' if len(named) > 3 else ''}"
    if not name:
        raise UserError(
            f"{path} holds several experiments: give --config={path}:NAME, where NAME is one of {listed}."
        )
    raise UserError(f"{path} has no experiment {name!r}.{nearest(name, named)} It has {listed}.")


def load(given: str) -> ConfigDict:
    """The config of what `--config` is given: a file or the name of a shipped config, or `FILE:EXPERIMENT`.

    Raises:
      UserError: there is no such file, it fails, or it gives no config; with the line where it failed.
    """
    name, colon, argument = given.partition(":")
    path = Path(name)
    try:
        file = Path(shipped.located(name))
        if not file.is_file():
            raise UserError(_missing(path))
        make = runpy.run_path(str(file)).get("get_config")
        if not callable(make):
            raise UserError(
                f"The config {path} has no function get_config(): define one that returns the config."
            )
        arguments = [argument] if colon else []
        _check_arguments(path, make, arguments)
        config = make(*arguments)
    except UserError:
        raise
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise UserError(f"{error.filename or path}{line}: {_in_one_line(error.msg)}.") from error
    except (Exception, SystemExit) as error:  # a config file is a program, and may fail as any
        raise UserError(
            f"The config {path} cannot be read{_line_in(path, error)}: {_words(error)}."
        ) from error
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"The config {path} cannot be read: get_config() must return an "
            "ml_collections.ConfigDict, but returned "
            f"{type(config).__name__ if config is not None else 'None'}."
        )
    return config


def at_hand(folder: Path = Path("configs")) -> str:
    """A sentence that says which config files there are."""
    files = sorted(path.name for path in folder.glob("*.py"))
    if files and folder.absolute() != shipped.folder():
        return f"{folder}/ holds {first_few(files)}."
    return f"fsljax comes with quickstart and others: {shipped.LISTING}."


def find(name: str, folder: Path = Path("configs")) -> str:
    """What `--config` is given for the experiment whose `config.name` this is.

    Raises:
      UserError: there is none in the folder; the nearest one is named.
    """
    given = names(folder)
    if name not in given:
        raise UserError(f"There is no experiment {name!r} in {folder}.{nearest(name, list(given))}")
    return given[name]


def names(folder: Path) -> dict[str, str]:
    """What `--config` is given for each experiment of a folder, by its `config.name`.

    The files are run. One that cannot be is left out: launch.py says what is wrong with it.
    """
    given: dict[str, str] = {}
    for file in sorted(folder.glob("*.py")):
        try:
            scope = runpy.run_path(str(file))
            get_config = scope["get_config"]
            if "EXPERIMENTS" in scope:
                given |= {
                    get_config(name).name: f"{file}:{name}" if name else str(file)
                    for name in scope["EXPERIMENTS"]
                }
            else:
                given[get_config().name or file.stem] = str(file)
        except (Exception, SystemExit):  # a config file is a program, and may fail as any
            continue
    return given


def _missing(path: Path) -> str:
    """What there is instead of a file that is not there."""
    comes = path.stem if path.stem in (file.stem for file in shipped.files()) else ""
    if path.is_dir():
        instead = (
            f"The one that comes with fsljax is --config=fsljax.configs/{comes}." if comes else at_hand(path)
        )
        return f"{path} is a folder, not a config file. {instead}"
    missing = f"There is no config file at {path}."
    if comes:
        return f"{missing} The one that comes with fsljax is --config={comes}."
    given = {name: f"{Path(file).stem}{colon}{argument}" for name, one in names(shipped.folder()).items()
             for file, colon, argument in [one.partition(":")]}  # fmt: skip
    if path.parent.name == "configs":
        given |= names(path.parent)
    if path.stem in given:
        return f"{missing} That experiment is --config={given[path.stem]}."
    given |= {Path(one).stem: one for one in sorted(map(str, path.parent.glob("*.py")))}
    near = shipped.nearest_few(path.stem, given)
    return f"{missing}{near} {shipped.LISTING}." if near else f"{missing} {at_hand()}"


def _check_arguments(path: Path, make: Callable[..., object], arguments: list[str]) -> None:
    """Raises a UserError if `get_config` does not take what it would be given."""
    try:
        inspect.signature(make).bind(*arguments)
    except TypeError:
        if arguments:
            raise UserError(
                f"The config {path} holds one experiment: give --config={path} without :{arguments[0]}."
            ) from None
        raise UserError(f"The config {path} holds several experiments: give --config={path}:NAME.") from None
    except ValueError:  # of a function that does not tell
        return


def _words(error: BaseException) -> str:
    kind, text = type(error).__name__, str(error.args[0] if len(error.args) == 1 else error)
    if isinstance(error, OSError):
        text = error.strerror or text
    with contextlib.suppress(ValueError, SyntaxError):  # ml_collections quotes its own
        text = str(ast.literal_eval(text))
    return f"{kind}: {_in_one_line(text)}" if text else kind


def _in_one_line(text: str) -> str:
    return " ".join(text.split())[:300].rstrip(".")


def _line_in(path: Path, error: BaseException) -> str:
    """ ", line 5": the last line of the file that an error went through."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path
    ]
    return f", line {lines[-1]}" if lines else ""
