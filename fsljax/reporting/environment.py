"""What a run was made with: versions and devices."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping

import jax


def describe_environment(weights: Mapping[str, str] | None = None) -> dict[str, str]:
    """Versions of the packages that decide a run's numbers, and the devices it sees.

    Args:
      weights: what is known of those that training began with.
    """
    facts = {}
    for package in ("fsljax", "jax", "jaxlib", "flax", "optax", "numpy"):
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    devices = jax.devices()
    count = f"{len(devices)} × " if len(devices) > 1 else ""
    facts["python"] = platform.python_version()
    facts["platform"] = f"{platform.system()} {platform.machine()}"
    facts["device"] = f"{count}{devices[0].device_kind} ({devices[0].platform})"
    if jax.process_count() > 1:
        facts["processes"] = str(jax.process_count())
    if weights:
        facts["weights"] = ", ".join(f"{name} {value}" for name, value in weights.items())
    return facts
