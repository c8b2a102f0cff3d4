"""A classifier, or its embedder, as one file that runs without fsljax: by `jax.export`, or as ONNX."""

from __future__ import annotations

import importlib.util
import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export

from fsljax import networks
from fsljax.classification.enrollment import Enrolled
from fsljax.classification.heads.traced import Probabilities
from fsljax.classification.network import ImageNetwork
from fsljax.errors import UserError
from fsljax.storage.json_files import write_json
from fsljax.storage.paths import given_path
from fsljax.storage.replacing import replacing

FORMATS = ("jax", "onnx")
PLATFORMS = ("cpu", "cuda", "tpu")
_INPUT, _OPSET = "images", 21

Function = Callable[[jax.Array], jax.Array]


def write(
    network: ImageNetwork,
    enrolled: Enrolled,
    path: str | os.PathLike[str],
    format: str,
    embeddings: bool | None,
) -> Path:
    """Writes a network, and what compares its classes, to one file, and a description beside it.

    Args:
      network: that embeds.
      enrolled: the classes.
      path: of the file; the description is at the same path with ".json" after it.
      format: "jax" or "onnx".
      embeddings: whether the file gives these instead of probabilities; None: where there is no class.

    Returns:
      the file.

    Raises:
      UserError: if there is no such format, what it takes is not installed or cannot express the network,
        the path holds something already, or it cannot be written.
    """
    if format not in FORMATS:
        raise UserError(f"format is {format!r}; it can be {' or '.join(map(repr, FORMATS))}.")
    classes = enrolled.labels
    if not classes and embeddings is False:
        raise UserError("No class is enrolled: call enroll(images, labels) first, or export embeddings.")
    only = not classes if embeddings is None else embeddings
    probabilities = None if only else enrolled.head.traceable()
    target = given_path(path)
    beside = target.with_name(f"{target.name}.json")
    for file in (target, beside):
        if file.exists():
            raise UserError(f"{file} exists already: give another path.")
    data = network.config.data
    shape = (data.image_size, data.image_size, data.channels)
    content = (_as_jax if format == "jax" else _as_onnx)(network, probabilities, shape)
    description = {
        "format": format,
        "input": {"name": _INPUT, "dtype": "float32", "shape": ["n", *shape], "range": [0, 1]},
        "output": "embeddings" if only else "probabilities",
        "classes": [] if only else classes,
        "network": network.config.network.name,
        "trained_on": data.name,
        "crop": data.crop,
        "interpolation": data.interpolation,
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as unfinished:
            unfinished.write_bytes(content)
        write_json(beside, description)
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror or error}): give another path."
        ) from error
    return target


def _as_jax(network: ImageNetwork, probabilities: Probabilities | None, shape: tuple[int, ...]) -> bytes:
    (batch,) = jax_export.symbolic_shape("n")
    images = jax.ShapeDtypeStruct((batch, *shape), jnp.float32)
    # XLA's own convolutions run everywhere; on a CPU others are faster, where they take any batch size.
    everywhere = _function(network, probabilities, "xla")
    on_cpu = _function(network, probabilities, "cpu")
    try:
        jax.eval_shape(on_cpu, network.model.variables, images)
    except Exception:  # a size is compared with a number, which JAX tells by several types
        on_cpu = everywhere
    # As an array of the program the variables are there once, for both.
    variables = jax.tree.map(jnp.asarray, network.model.variables)

    def run(given: jax.Array) -> jax.Array:
        if on_cpu is everywhere:
            return everywhere(variables, given)
        result: jax.Array = jax.lax.platform_dependent(variables, given, cpu=on_cpu, default=everywhere)
        return result

    exported = jax_export.export(jax.jit(run), platforms=PLATFORMS)(images)
    return bytes(exported.serialize())


def _as_onnx(network: ImageNetwork, probabilities: Probabilities | None, shape: tuple[int, ...]) -> bytes:
    if importlib.util.find_spec("jax2onnx") is None:
        raise UserError("ONNX needs jax2onnx: pip install 'fsljax[onnx]', or export with format \"jax\".")
    from jax2onnx import to_onnx

    variables = network.model.variables
    function = _function(network, probabilities, "xla")
    name = "embeddings" if probabilities is None else "probabilities"
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns of every constant
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: Any = to_onnx(
                lambda images: function(variables, images), [("n", *shape)], model_name="fsljax",
                opset=_OPSET, input_names=[_INPUT], output_names=[name],
            )  # fmt: skip
    except Exception as error:  # its own, onnx's and JAX's
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(
            f"jax2onnx cannot express this {network.config.network.name} ({reason}): export with format "
            '"jax".'
        ) from error
    return bytes(model.SerializeToString())


def _function(
    network: ImageNetwork, probabilities: Probabilities | None, kernels: str
) -> Callable[[Any, jax.Array], jax.Array]:
    """Of variables and images float32 `[n, height, width, channel]` in [0, 1], the output."""
    config = network.config
    module = networks.build(replace(config, network=replace(config.network, kernels=kernels)))

    def run(variables: Any, images: jax.Array) -> jax.Array:
        # To 8 bits, as images given to a classifier are; jax2onnx cannot express `jnp.round`.
        images = jax.lax.round(images * 255, jax.lax.RoundingMethod.TO_NEAREST_EVEN) / 255
        embeddings: Any = module.apply(variables, images, running_average=True)
        return embeddings if probabilities is None else probabilities(embeddings)

    return run
