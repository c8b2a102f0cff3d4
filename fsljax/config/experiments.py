"""Experiments by their names: files in configs/, and the arguments of a file that holds several."""

from __future__ import annotations

import runpy
from collections.abc import Collection
from pathlib import Path

from fsljax.config.reading import nearest
from fsljax.errors import UserError


def choose(name: str, experiments: Collection[str], file: str) -> str:
    """The argument of a config file that holds several experiments.

    Args:
      name: what follows the colon in `--config=configs/FILE.py:NAME`; empty where there is none.
      experiments: all that there are; the file calls them `EXPERIMENTS`, which is how `names` knows them.
      file: `__file__` of the config file.

    Returns:
      the name.

    Raises:
      UserError: there is none of this name; the nearest one and all that there are are named.
    """
    if name in experiments:
        return name
    path, listed = "/".join(Path(file).parts[-2:]), ", ".join(experiments)
    if not name:
        raise UserError(f"{path} holds several experiments: give --config={path}:NAME, NAME one of {listed}.")
    raise UserError(f"{path} has no experiment {name!r}.{nearest(name, list(experiments))} It has {listed}.")


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
                given |= {get_config(name).name: f"{file}:{name}" for name in scope["EXPERIMENTS"]}
            else:
                given[get_config().name or file.stem] = str(file)
        except Exception:  # a config file is a program, and may fail as any
            continue
    return given
