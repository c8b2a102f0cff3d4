"""Methods: each a module of this package, the only place where network, loss, sampler and evaluation meet.

A module `fsljax.methods.NAME` has `default_config()`, `check(config)` and `build(config, data)`, which
returns a `fsljax.training.method.Method`; `config.method` is NAME. Where it trains on other data than images
of a class each, it has `load(config)` too.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from ml_collections import ConfigDict

from fsljax import data as image_data
from fsljax.config import check_fields
from fsljax.errors import UserError
from fsljax.training.method import Data, Method


def load(config: ConfigDict) -> Data:
    """The data that `config.data` names, as the method `config.method` takes them.

    Raises:
      UserError: if they are missing or unfit, saying what to do.
    """
    return getattr(_module(config), "load", image_data.load)(config)


def build(config: ConfigDict, data: Data) -> Method:
    """The method that `config.method` names, on its data.

    Raises:
      UserError: if there is none, or the config or the data do not fit it.
    """
    return _module(config).build(config, data)


def check(config: ConfigDict) -> None:
    """Raises a UserError for a config that cannot work, before data are loaded."""
    module = _module(config)
    check_fields(config, module.default_config())
    module.check(config)


def _module(config: ConfigDict) -> Any:
    method = config.get("method")
    name = f"{__name__}.{method}"
    if not isinstance(method, str) or not method.isidentifier() or importlib.util.find_spec(name) is None:
        raise UserError(f"config.method is {method!r}, but there is no module {name}.")
    return importlib.import_module(name)
