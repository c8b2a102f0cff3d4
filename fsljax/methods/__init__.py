"""Methods, one module each: the only place where network, loss, sampler and evaluation meet.

A module `fsljax.methods.NAME` is selected by `config.method = NAME`. It has a frozen dataclass `Config` (an
`fsljax.config.Experiment` with sections of its own), `default_config()`, `check(config)` to check fields
against each other, and `build(config, data)`, which returns a `fsljax.training.method.Method`. Optional are
`load(config)`, if it trains on data other than images of one class each; `completed(config)`, if some fields
follow from others; `PARAMS`, the names of top-level parameters that belong to the method rather than to its
network; and, on the method, `check_test()`, if the data may be insufficient for the test. Your own method can
be a module anywhere: set `config.method` to its dotted name.
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

    Fields that the weights specify are filled in; weights that are not stored locally are downloaded.

    Args:
      config: as returned by a config file.
      kept: dotted names of fields that keep their value whatever the weights specify.
      find_weights: False: for a config with weights, only types and bounds are checked.

    Raises:
      UserError: if the config is invalid.
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
            "config.data.crop and config.data.interpolation are for labelled photographs, but images of "
            f"{typed.data.name} are read whole: leave both at their defaults. If weights require them, use "
            "photographs, such as --config.data.name=folder."
        )
    module.check(typed)
    return typed


def load(config: Experiment | ConfigDict) -> Data:
    """Loads the data that `config.data` names, as the method `config.method` expects them.

    Raises:
      UserError: if the data are missing or unsuitable; the message says what to do.
    """
    config = _typed(config)
    return getattr(_module(config.method), "load", image_data.load)(config)


def build(config: Experiment | ConfigDict, data: Data) -> Method:
    """Builds the method that `config.method` names, with its data.

    Args:
      config: as returned by `check` or by a config file.
      data: as returned by `load`.

    Raises:
      UserError: if the config or the data do not suit the method.
    """
    config = _typed(config)
    return _module(config.method).build(config, data)


def check_test(method: Method) -> None:
    """Raises a UserError before training if the method's `check_test()` finds that its test cannot be run."""
    getattr(method, "check_test", lambda: None)()


def _typed(config: Experiment | ConfigDict) -> Experiment:
    return check(config) if isinstance(config, ConfigDict) else config


def params_of(method: object) -> tuple[str, ...]:
    """Names of the parameters that a method has in addition to its network's.

    Raises:
      UserError: if there is no such method.
    """
    return tuple(getattr(_module(method), "PARAMS", ()))


def config_of(method: object) -> type[Experiment]:
    """The config class of a method, as `fsljax.config.read` expects it.

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
