"""Methods, data sources, backbones and the like, found by the names of their modules."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from types import ModuleType

from fsljax.config.reading import nearest
from fsljax.errors import UserError


def find(package: str, name: object, *, field: str, needs: tuple[str, ...] = ()) -> ModuleType:
    """The module of a package that a field of a config names, or any other module by its dotted name.

    Args:
      package: such as "fsljax.methods".
      name: of a module in it, "protonet"; or of one elsewhere, "mypackage.mymethod".
      field: of the config, for the error.
      needs: what the module must define.

    Raises:
      UserError: there is none of this name (those that there are are named), or it lacks what it needs.
    """
    if isinstance(name, str) and all(part.isidentifier() for part in name.split(".")):
        full = name if "." in name else f"{package}.{name}"
        try:
            if importlib.util.find_spec(full) is not None:
                return _complete(importlib.import_module(full), field, needs)
        except ModuleNotFoundError as error:
            if error.name is None or not full.startswith(error.name):
                raise
    known = names(package)
    hint = nearest(name, known) if isinstance(name, str) else ""
    raise UserError(
        f"config.{field} is {name!r}, but there is no module {package}.{name}.{hint} It can be "
        f"{', '.join(map(repr, known))}, or the dotted name of a module of your own."
    )


def names(package: str) -> list[str]:
    """The names that modules of a package have."""
    paths = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(paths) if not module.ispkg)


def check_imported(name: object, source: object) -> None:
    """Raises a UserError for a module of one's own that a stored file names and nobody has imported.

    A file that came from elsewhere must not choose what is imported.

    Args:
      name: of a module, as `find` takes it.
      source: the file, for the error.
    """
    if isinstance(name, str) and "." in name and name not in sys.modules:
        raise UserError(f"{source} names the module {name}: if it is your own, import it first.")


def _complete(module: ModuleType, field: str, needs: tuple[str, ...]) -> ModuleType:
    missing = [name for name in needs if not hasattr(module, name)]
    if missing:
        raise UserError(
            f"The module {module.__name__}, which config.{field} names, defines no "
            f"{' and no '.join(missing)}: see docs/how_to/extending.md."
        )
    return module
