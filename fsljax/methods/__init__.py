"""Methods: each a module of this package, the only place where network, loss, sampler and evaluation meet.

A module `fsljax.methods.NAME` has a frozen dataclass `Config` (an `fsljax.config.Experiment` with sections
of its own), `default_config()`, `check(config)` for what its fields must be to each other, and
`build(config, data)`, which returns a `fsljax.training.method.Method`; `config.method` is NAME. Where it
trains on other data than images of a class each, it has `load(config)` too; where fields follow from others,
`completed(config)`; where data can lack what a test takes, the method has `check_test()`. A method of one's
own is a module anywhere: `config.method` is its dotted name. `PARAMS` names the parameters, at the top of the
tree, that are the method's and not its network's.
"""

from __future__ import annotations

from collections.abc import Collection
from types import ModuleType

from ml_collections import ConfigDict

from fsljax import data as image_data
from fsljax.config import Experiment, read
from fsljax.config.checks import check_experiment
from fsljax.config.modules import find
from fsljax.config.reading import as_mapping
from fsljax.deprecated import names_of
from fsljax.errors import UserError
from fsljax.networks.pretrained import described, without_gaps
from fsljax.training.method import Data, Method


def check(config: ConfigDict, *, kept: Collection[str] = (), find_weights: bool = True) -> Experiment:
    """The typed values of a config, checked once, before data are loaded.

    What its weights say of themselves is in them: weights that are not here are fetched.

    Args:
      config: as a config file gave it.
      kept: dotted names of the fields that stay whatever the weights say.
      find_weights: False: of a config with weights types and bounds alone are checked.

    Raises:
      UserError: for a config that cannot work.
    """
    module = _module(as_mapping(config).get("method"))
    filled = without_gaps(config)
    typed: Experiment = read(module.Config, filled)
    if typed.network.weights and not find_weights:
        return typed
    if typed.network.weights or typed.network.unless_described or filled is not config:
        images = not hasattr(module, "load")
        typed = read(module.Config, described(config, kept=kept, images=images))
    typed = getattr(module, "completed", lambda config: config)(typed)
    check_experiment(typed)
    source = None if hasattr(module, "load") else image_data.find_source(typed.data.name)
    if (typed.data.crop or typed.data.interpolation) and getattr(source, "HOLDS_DRAWINGS", source is None):
        raise UserError(
            "config.data.crop and config.data.interpolation are for photographs of a class each, but images "
            f"of {typed.data.name} are read whole: leave both as they are by default. Where weights ask for "
            "them, give photographs, such as --config.data.name=folder."
        )
    module.check(typed)
    return typed


def load(config: Experiment | ConfigDict) -> Data:
    """The data that `config.data` names, as the method `config.method` takes them.

    Raises:
      UserError: if they are missing or unfit, saying what to do.
    """
    config = _typed(config)
    return getattr(_module(config.method), "load", image_data.load)(config)


def build(config: Experiment | ConfigDict, data: Data) -> Method:
    """The method that `config.method` names, on its data.

    Args:
      config: as `check` gave it, or as a config file did.
      data: as `load` gave them.

    Raises:
      UserError: if the config or the data do not fit it.
    """
    config = _typed(config)
    return _module(config.method).build(config, data)


def check_test(method: Method) -> None:
    """Before a training: a UserError if a method's own `check_test()` finds that its test cannot be run."""
    getattr(method, "check_test", lambda: None)()


def _typed(config: Experiment | ConfigDict) -> Experiment:
    return check(config) if isinstance(config, ConfigDict) else config


def params_of(method: object) -> tuple[str, ...]:
    """Names of the parameters that a method has beside its network's.

    Raises:
      UserError: if there is no such method.
    """
    return tuple(getattr(_module(method), "PARAMS", ()))


def config_of(method: object) -> type[Experiment]:
    """The config of a method, as `fsljax.config.read` takes it.

    Raises:
      UserError: if there is no such method.
    """
    kind: type[Experiment] = _module(method).Config
    return kind


def _module(method: object) -> ModuleType:
    return find(
        "fsljax.methods", method, field="method", needs=("Config", "default_config", "check", "build")
    )


__getattr__ = names_of(__name__)
