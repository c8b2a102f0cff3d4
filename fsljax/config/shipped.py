"""The configs that come with fsljax: `configs/` in a checkout, `fsljax.configs` once it is installed."""

from __future__ import annotations

import difflib
import re
import runpy
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

LISTING = "`fsljax configs` lists them all"
_PREFIX = re.compile(r"fsljax[./]configs[./]")
_FEW = 3
_TITLES = {"pretrained": "Pretrained features"}


class Listed(NamedTuple):
    """A config file.

    Attributes:
      name: what `--config` takes.
      method: of its experiments.
      meaning: one line.
      experiments: what may follow the colon; empty where the file holds one experiment.
    """

    name: str
    method: str
    meaning: str
    experiments: tuple[str, ...]


def folder() -> Path:
    """Where the shipped configs are."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def located(given: str) -> str:
    """The path of a config file: as given where something is there, else that of a shipped one by its name.

    Args:
      given: a path, `NAME` or `fsljax.configs/NAME`, each with or without `:EXPERIMENT`.
    """
    name, colon, argument = given.partition(":")
    bare = _PREFIX.sub("", name, count=1)
    if bare == name and (Path(name).parent != Path() or _exists(Path(name))):
        return given
    file = next((file for file in files() if bare in (file.stem, file.name)), None)
    return given if file is None else f"{file}{colon}{argument}"


def files() -> list[Path]:
    """The shipped config files, tables left out."""
    return sorted(folder().glob("*.py"))


def is_shipped(path: Path) -> bool:
    """Whether this is a shipped config that is not reached as `configs/NAME.py` from the current folder."""
    return path.parent == folder() and not Path("configs", path.name).is_file()


def nearest_few(name: str, known: Mapping[str, str]) -> str:
    """ " Did you mean A, B or C?" with what the nearest known names stand for; empty where none is near."""
    near = [known[one] for one in difflib.get_close_matches(name, list(known), n=_FEW, cutoff=0.5)]
    few = " or ".join(filter(None, [", ".join(near[:-1]), *near[-1:]]))
    return f" Did you mean {few}?" if near else ""


def listed(text: str = "") -> list[Listed]:
    """The shipped configs that have a text in their names; the files are run."""
    found = []
    for file in files():
        scope = runpy.run_path(str(file))
        everything = tuple(scope.get("EXPERIMENTS", ()))
        experiments = tuple(one for one in everything if text in f"{file.stem}:{one}")
        if not experiments and text not in file.stem:
            continue
        config = scope["get_config"](*everything[:1])
        meaning = (scope["__doc__"] or "").strip().splitlines()[0]
        meaning = re.sub(r"[:;,]? *--config=\S+", "", meaning).rstrip(".")
        found.append(Listed(file.stem, config.method, meaning, experiments))
    return found


def as_text(configs: Collection[Listed]) -> str:
    """Configs in groups by their methods: a line for each file, then its experiments."""
    groups: dict[str, list[str]] = {}
    width = max((len(config.name) for config in configs), default=0)
    for config in configs:
        lines = groups.setdefault(config.method, [])
        lines.append(f"  {config.name:<{width}}  {config.meaning}")
        lines += [f"    {config.name}:{experiment}" for experiment in filter(None, config.experiments)]
    titled = [[_TITLES.get(method, method), *lines] for method, lines in sorted(groups.items())]
    return "\n\n".join("\n".join(group) for group in titled)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, say
        return True
