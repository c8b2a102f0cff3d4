"""Weights from files with torchvision's names: `.safetensors` and `.npz`, never pickles."""

from __future__ import annotations

import hashlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict

from fsljax.errors import UserError
from fsljax.networks.variables import Variables
from fsljax.storage.array_files import read_arrays

SUFFIXES = (".safetensors", ".npz")
_PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt")
# Classifiers of the classes that the weights were trained on, and what only training needs.
_LEFT_OUT = ("fc.", "classifier.", "AuxLogits.")
_COUNTER = "num_batches_tracked"
_ADVICE = "give the weights of the network that config.network.name names."
_LEAVES = {"kernel": "weight", "bias": "bias", "scale": "weight", "shift": "bias",
           "mean": "running_mean", "variance": "running_var"}  # fmt: skip


def load_weights(path: Path, variables: Variables) -> Variables:
    """The variables of a network with its backbone's arrays read from a file.

    Args:
      path: a `.safetensors` or `.npz` file of torchvision's names and shapes.
      variables: "params" and "batch_stats" of a backbone, or of anything that holds one under "backbone";
        all other parts stay as they are.

    Returns:
      a tree of the same structure, float32.

    Raises:
      UserError: if the file cannot be read or is a pickle, or a tensor is missing, of another shape, not
        finite, or of no part of the network; the first one is named.
    """
    flat = flatten_dict({name: variables[name] for name in ("params", "batch_stats")})
    places = torch_names(variables)
    tensors = read_tensors(path)
    for name, place in places.items():
        shape = _torch_shape(flat[place])
        if name not in tensors:
            raise UserError(
                f"{path} has no tensor {name!r}, which the network has in shape {shape}: {_ADVICE}"
            )
        if tensors[name].shape != shape:
            raise UserError(
                f"{path}: the tensor {name!r} has shape {tensors[name].shape} in the file and {shape} in the "
                f"network: {_ADVICE}"
            )
        if not np.isfinite(tensors[name]).all():
            raise UserError(f"{path}: the tensor {name!r} has values that are not finite.")
        flat[place] = jnp.asarray(_to_flax(tensors[name]), jnp.float32)
    for name in sorted(set(tensors) - set(places)):
        if not name.startswith(_LEFT_OUT) and not name.endswith(_COUNTER):
            raise UserError(
                f"{path} has a tensor {name!r} of shape {tensors[name].shape}, which the network does not "
                f"have: {_ADVICE}"
            )
    others = {".".join(place[1:-1]) for place in flat} - {".".join(place[1:-1]) for place in places.values()}
    if others:
        logging.info(
            "%s holds the backbone alone: %s keep their first values.", path, ", ".join(sorted(others))
        )
    return {**variables, **unflatten_dict(flat)}


def has_folded_norm(variables: Variables) -> bool:
    """Whether every batch norm's running averages are those of no data: folded into the convolutions."""
    averages = flatten_dict(variables["batch_stats"])
    means = [values for place, values in averages.items() if place[-1] == "mean"]
    return bool(means) and not any(np.any(values) for values in means)


def torch_names(variables: Variables) -> dict[str, tuple[str, ...]]:
    """Where each of torchvision's tensors has its place: `{"layer1.0.conv1.weight": ("params", …)}`.

    Args:
      variables: as of `load_weights`.
    """
    places = flatten_dict({name: variables[name] for name in ("params", "batch_stats")})
    has_backbone = any("backbone" in place for place in places)
    names = {}
    for place in places:
        if has_backbone and "backbone" not in place:
            continue
        modules = place[place.index("backbone") + 1 : -1] if has_backbone else place[1:-1]
        names[".".join([*modules, _LEAVES[place[-1]]])] = place
    return names


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a `.safetensors` or `.npz` file by name.

    Raises:
      UserError: if it is of another kind (pickles run what their author wrote), or cannot be read.
    """
    check_suffix(path)
    try:
        path.open("rb").close()
        if path.suffix == ".npz":
            return read_arrays(path)
        from safetensors.numpy import load_file

        return load_file(path)
    except OSError as error:
        raise UserError(
            f"The weights {path} (config.network.weights) cannot be read: {error.strerror or error}."
        ) from error
    except Exception as error:  # damage comes as many types
        lines = (str(error) or type(error).__name__).splitlines()
        reason = lines[0].removeprefix(f"{path} ").removeprefix("is damaged: ").rstrip(".")
        raise UserError(f"The weights {path} (config.network.weights) are damaged: {reason}.") from error


def check_suffix(path: Path) -> None:
    """Raises a UserError if a file's name is not that of a kind that is read."""
    if path.suffix.lower() in _PICKLES:
        raise UserError(
            f"{path} (config.network.weights) is a pickle, and reading a pickle runs whatever program is in "
            "it: save its state dict as .safetensors, or as .npz, and give that."
        )
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} (config.network.weights) must end in {' or '.join(SUFFIXES)}.")


def content_hash(path: Path) -> str:
    """SHA-256 of the file: equal weights give equal features.

    Raises:
      UserError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"The weights {path} (config.network.weights) cannot be read: {error.strerror or error}."
        ) from error


def _to_flax(tensor: np.ndarray) -> np.ndarray:
    """`[out, in, rows, columns]` to `[rows, columns, in, out]`, `[out, in]` to `[in, out]`."""
    if tensor.ndim == 4:
        return tensor.transpose(2, 3, 1, 0)
    return tensor.T


def _torch_shape(array: jax.Array) -> tuple[int, ...]:
    shape = np.shape(array)
    return (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape[::-1]
