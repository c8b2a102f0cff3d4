"""Types of what networks are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

Params = Mapping[str, Any]
"""Nested dicts of arrays, by the names of modules."""

Variables = Mapping[str, Params]
"""Of a network: "params" and "batch_stats"."""

Embed = Callable[[Variables, jax.Array | np.ndarray], jax.Array]
"""Of a network's variables and a batch of its inputs: embeddings, or features, `[batch, dim]`."""
