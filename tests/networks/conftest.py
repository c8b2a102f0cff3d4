"""Variables of a network that are nowhere 0 or 1, and its agreement with a PyTorch module."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save_file

from fsljax.networks.weights import load_weights


def draw_variables(network: nn.Module, *shape: int) -> dict[str, Any]:
    """Random variables of a network for images `[height, width, channel]`, without compiling it."""
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    init = partial(network.init, running_average=True)
    shapes = flatten_dict(jax.eval_shape(init, jax.random.key(0), images))
    generator = np.random.default_rng(0)
    flat = {}
    for place, leaf in shapes.items():
        if place[-1] == "kernel":
            values = generator.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        elif place[-1] in ("scale", "variance"):
            values = generator.uniform(0.5, 1.5, leaf.shape)
        else:
            values = 0.1 * generator.normal(size=leaf.shape)
        flat[place] = values.astype(np.float32)
    return unflatten_dict(flat)


@pytest.fixture
def draw() -> Callable[..., dict[str, Any]]:
    return draw_variables


@pytest.fixture
def assert_agrees_with_torch(tmp_path: Path) -> Callable[..., None]:
    """Compares features of random images, by random weights that PyTorch saves and fsljax loads."""

    def check(make: Callable[[], Any], network_with: Callable[[str], nn.Module], *shape: int) -> None:
        torch = pytest.importorskip("torch")
        torch.manual_seed(0)
        module = make().eval()
        for name, tensor in module.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.1)
            elif name.endswith("running_var") or (name.endswith("weight") and tensor.ndim == 1):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("weight"):  # PyTorch's own first weights would let the signal fade away
                tensor.normal_(0, float(np.sqrt(2 / np.prod(tensor.shape[1:]))))
            elif name.endswith("bias"):
                tensor.normal_(0, 0.1)
        path = tmp_path / "weights.safetensors"
        save_file({name: tensor.numpy() for name, tensor in module.state_dict().items()}, path)
        images = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
        with torch.no_grad():
            expected = module(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
        assert np.std(expected, axis=0).max() > 1e-3  # features that tell the images apart
        for kernels in ("cpu", "xla"):
            network = network_with(kernels)
            variables = load_weights(path, draw_variables(network, *shape))
            ours = jax.jit(partial(network.apply, running_average=True))(variables, images)
            np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4 * np.abs(expected).max())

    return check
