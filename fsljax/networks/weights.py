"""Loads weights from files with names of timm or torchvision, without executing code in them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict

from fsljax.errors import UserError
from fsljax.networks.detector_layout import advice, detector_layout, is_of_detector
from fsljax.networks.layouts import flat_arrays, names_in_file, with_registers_as_in_timm
from fsljax.networks.layouts import torch_names as torch_names  # found here by earlier programs
from fsljax.networks.positions import fitted_positions
from fsljax.networks.variables import Variables
from fsljax.storage.array_files import read_arrays
from fsljax.storage.torch_files import read_state_dict

SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".bin")
_OF_PYTORCH = (".pth", ".pt", ".bin")
_PICKLES = (".pkl", ".pickle", ".ckpt")
# Classifiers of the classes that the weights were trained on, and what only training needs.
_LEFT_OUT = ("fc.", "_fc.", "classifier.", "head.", "AuxLogits.", "mask_token")
_COUNTER = "num_batches_tracked"
_TOKENS = ("cls_token", "reg_token")
_ADVICE = "give the weights of the network that config.network.name names."


def load_weights(path: Path, variables: Variables) -> Variables:
    """Loads the weights of a network's backbone from a file.

    Args:
      path: a file with names and shapes of timm or torchvision, with one of `SUFFIXES`. Position embeddings
        may be for another image size. It may hold a whole detector (`fsljax.networks.detector_layout`).
      variables: "params" and "batch_stats" of a backbone, or of a tree with one under "backbone"; everything
        else is unchanged.

    Returns:
      a tree of the same structure, float32.

    Raises:
      UserError: if the file cannot be read or is a pickle, or a tensor is missing, has the wrong shape, is
        not finite, or belongs to no part of the network; the first one is named.
    """
    flat = flat_arrays(variables)
    tensors = with_registers_as_in_timm(read_tensors(path))
    dropped: frozenset[str] = frozenset()
    if is_of_detector(tensors):
        places, tensors, dropped, sentence = detector_layout(variables, tensors)
        if sentence:
            logging.warning("%s: %s.", path, sentence)
    else:
        places = names_in_file(variables, tensors)
    tokens = sum(_torch_shape(flat[place])[1] for place in places.values() if place[-1] in _TOKENS)
    for name, place in places.items():
        shape = _torch_shape(flat[place])
        if name not in tensors:
            raise UserError(
                f"{path} has no tensor {name!r}, which the network has in shape {shape}: "
                f"{advice(name) or _ADVICE}"
            )
        tensor = tensors[name]
        if tensor.shape != shape and place[-1] == "pos_embed":
            tensor = fitted_positions(tensor, shape, tokens)
        if tensor.shape != shape:
            raise UserError(
                f"{path}: the tensor {name!r} has shape {tensor.shape} in the file and {shape} in the "
                f"network: {_ADVICE}"
            )
        with np.errstate(over="ignore"):
            tensor = tensor.astype(np.float32)
        if not np.isfinite(tensor).all():
            raise UserError(f"{path}: the tensor {name!r} has values that are not finite.")
        flat[place] = jnp.asarray(_to_flax(tensor))
    for name in sorted(set(tensors) - set(places) - dropped):
        if not name.startswith(_LEFT_OUT) and not name.endswith(_COUNTER):
            raise UserError(
                f"{path} has a tensor {name!r} of shape {tensors[name].shape}, which the network does not "
                f"have: {advice(name) or _ADVICE}"
            )
    others = {".".join(place[1:-1]) for place in flat} - {".".join(place[1:-1]) for place in places.values()}
    if others:
        logging.info(
            "%s does not cover the whole network: %s keep their initial values.",
            path,
            ", ".join(sorted(others)),
        )
    return {**variables, **unflatten_dict(flat)}


def has_folded_norm(variables: Variables) -> bool:
    """Whether every batch norm has initial running averages, having been folded into the convolutions."""
    averages = flatten_dict(variables.get("batch_stats", {}))
    means = [values for place, values in averages.items() if place[-1] == "mean"]
    return bool(means) and not any(np.any(values) for values in means)


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file by name, floats of less than 32 bits as float32.

    Args:
      path: a file with one of `SUFFIXES`.

    Raises:
      UserError: if it is of another type, cannot be read, or contains anything but tensors and plain data.
    """
    check_suffix(path)
    try:
        path.open("rb").close()
        if path.suffix.lower() in _OF_PYTORCH:
            return read_state_dict(path)
        if path.suffix == ".npz":
            return _in_full(read_arrays(path))
        from safetensors.numpy import load_file

        return _in_full(load_file(path))
    except OSError as error:
        raise UserError(
            f"The weights {path} (config.network.weights) cannot be read: {error.strerror or error}."
        ) from error
    except Exception as error:  # damage comes as many types
        if isinstance(error, UserError) and path.suffix.lower() in _OF_PYTORCH:
            raise
        lines = (str(error) or type(error).__name__).splitlines()
        reason = lines[0].removeprefix(f"{path} ").removeprefix("is damaged: ").rstrip(".")
        raise UserError(f"The weights {path} (config.network.weights) are damaged: {reason}.") from error


def check_suffix(path: Path) -> None:
    """Raises a UserError if a file's name is not that of a kind that is read."""
    if path.suffix.lower() in _PICKLES:
        raise UserError(
            f"{path} (config.network.weights) is a pickle, and reading a pickle can run any code in it: "
            "save its state dict as .safetensors, .pth or .npz, and give that."
        )
    if path.suffix not in SUFFIXES and path.suffix.lower() not in _OF_PYTORCH:
        raise UserError(
            f"{path} (config.network.weights) must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}."
        )


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
    """`[out, in, rows, columns]` to `[rows, columns, in, out]`, `[out, in]` to `[in, out]`; else the same."""
    if tensor.ndim == 4:
        return tensor.transpose(2, 3, 1, 0)
    return tensor.T if tensor.ndim == 2 else tensor


def _torch_shape(array: jax.Array) -> tuple[int, ...]:
    shape = np.shape(array)
    if len(shape) == 4:
        return (shape[3], shape[2], shape[0], shape[1])
    return shape[::-1] if len(shape) == 2 else shape


def _in_full(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Halves as float32: they hold 11 digits (bfloat16: 8), which sums must not be kept to."""
    return {
        name: tensor.astype(np.float32) if tensor.dtype.itemsize < 4 and tensor.dtype.kind in "fV" else tensor
        for name, tensor in tensors.items()
    }
