"""Metric learning and few-shot learning in JAX.

Losses are pure functions (`fsljax.losses`); applications use `fsljax.api.Classifier` and
`fsljax.api.Detector`; experiments run through `launch.py` from `configs/`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from fsljax import deprecated

__version__ = "0.1.0"
__all__ = [
    "api",
    "classification",
    "clustering",
    "config",
    "data",
    "detection",
    "distances",
    "evaluation",
    "load_flax",
    "losses",
    "methods",
    "networks",
]


deprecated.install()

_CHECKOUT = Path(__file__).parents[1]
if not Path(__file__).with_name("configs").exists() and (_CHECKOUT / "configs/quickstart.py").exists():
    __path__.append(str(_CHECKOUT))  # fsljax.configs, which a wheel has inside


def __getattr__(name: str) -> Any:
    # On first use: importing everything takes seconds that a user of one loss need not spend.
    if name == "load_flax":
        return importlib.import_module(f"{__name__}.loading").load_flax
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
