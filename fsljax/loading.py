"""A saved model for Flax code of one's own."""

from __future__ import annotations

import os

import flax.linen as nn

from fsljax import methods
from fsljax.classification.network import ImageNetwork
from fsljax.classification.stored_config import PRETRAINED
from fsljax.config.modules import check_imported
from fsljax.detection.model import stored
from fsljax.networks.variables import Variables
from fsljax.storage.paths import given_path
from fsljax.training import workdir


def load_flax(path: str | os.PathLike[str]) -> tuple[nn.Module, Variables]:
    """The Flax module of a saved model, and its variables.

    Of a classifier it embeds images float32 `[n, height, width, channel]` in [0, 1] as `[n, dim]`:
    `module.apply(variables, images, running_average=True)`. Of a detector it is a
    `fsljax.detection.model.detector.DetectorNetwork`, whose methods are called by
    `module.apply(variables, …, method="…")`.

    Args:
      path: a run's workdir, a shipped model, or a folder that `Classifier.save` or `Detector.save` wrote.

    Returns:
      the module; and `{"params": …, "batch_stats": …}`, float32, of the network alone: what its method
      trained beside it, such as representatives or a softmax layer, is left out.

    Raises:
      UserError: if the folder holds no model, or nothing that can be read.
    """
    folder = given_path(path)
    if workdir.method_of(folder) == stored.METHOD:
        trained = stored.load(folder)
        return trained.network, trained.network_variables
    network = ImageNetwork.of_folder(folder)
    network.dim(f"The model in {folder}")
    method, variables = network.config.method, network.model.variables
    if method != PRETRAINED:
        check_imported(method, folder / workdir.CONFIG)
    beside = () if method == PRETRAINED else methods.params_of(method)
    params = {name: tree for name, tree in variables["params"].items() if name not in beside}
    return network.module, {**variables, "params": params}
