"""What networks are made of: types, and shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fsljax.errors import UserError

Params = Mapping[str, Any]
"""Nested dicts of arrays, by the names of modules."""

Variables = Mapping[str, Params]
"""Of a network: "params" and "batch_stats"."""

Embed = Callable[[Variables, jax.Array | np.ndarray], jax.Array]
"""Of a network's variables and a batch of its inputs: embeddings, or features, `[batch, dim]`."""


def check_variables(
    network: nn.Module, variables: Variables, image_shape: tuple[int, ...], where: str
) -> tuple[int, ...]:
    """Compares variables with those that a network has; others beside them may be a method's.

    Args:
      network: as a config describes it.
      variables: as they were stored.
      image_shape: `(height, width, channel)`.
      where: they are from, for the error.

    Returns:
      the shape of what the network gives for one image, `()` if that is no single array.

    Raises:
      UserError: if one is missing, or has another shape.
    """

    def first(key: jax.Array) -> tuple[Any, Any]:
        images = jnp.zeros((1, *image_shape))
        return network.init_with_output(key, images, running_average=True)

    output, wanted = jax.eval_shape(first, jax.random.key(0))
    there = _shapes({name: variables.get(name, {}) for name in wanted})
    for name, shape in _shapes(wanted).items():
        if there.get(name) != shape:
            found = there.get(name, "missing")
            raise UserError(
                f"{where} is damaged, or does not fit the network in its config: {name} is {found}, but "
                f"must be {shape}."
            )
    return tuple(output.shape[1:]) if isinstance(output, jax.ShapeDtypeStruct) else ()


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): tuple(np.shape(leaf)) for path, leaf in leaves}
