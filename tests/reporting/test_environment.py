"""Versions and devices."""

from __future__ import annotations

import jax

from fsljax.reporting.environment import describe_environment


def test_says_what_decides_the_numbers():
    facts = describe_environment()
    assert facts["jax"] == jax.__version__
    assert {"fsljax", "jaxlib", "flax", "optax", "numpy", "python", "platform"} <= set(facts)
    assert facts["device"].endswith(f"({jax.devices()[0].platform})")
