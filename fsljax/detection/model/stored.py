"""A detector as a run left it in its workdir."""

from __future__ import annotations

from pathlib import Path

from fsljax.config import modules, read
from fsljax.detection.config import Config
from fsljax.detection.model.build import build_network
from fsljax.detection.model.trained import REPRESENTATIVES, TrainedDetector
from fsljax.errors import UserError
from fsljax.networks.variables import check_variables
from fsljax.training import workdir
from fsljax.training.checkpoints import Checkpoints

METHOD = "repmet_detector"


def read_config(folder: Path) -> Config:
    """The config of a detector's run; fields that came after it was made have their defaults.

    Raises:
      UserError: if there is none, or it cannot be read.
    """
    path = folder / workdir.CONFIG
    if not workdir.has_config(folder):
        raise UserError(
            f"There is no detector in {folder}: give the workdir of a run, or a folder written by save."
        )
    stored = workdir.read_config(folder)
    if "method" not in stored:
        raise UserError(f"{path} cannot be read: it names no method.")
    if stored["method"] != METHOD:
        raise UserError(
            f"{folder} holds a run of the method {stored['method']!r}, not a detector: load it with "
            "fsljax.api.Classifier.load."
        )
    try:
        config = read(Config, stored, complete=False)
        modules.check_imported(config.network.name, path)
        build_network(config, 2)
    except UserError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return config


def load(folder: Path) -> TrainedDetector:
    """Reads the best checkpoint of a detector's run.

    Raises:
      UserError: if there is none, or it cannot be read.
    """
    config = read_config(folder)
    model = Checkpoints(folder).restore_model()
    where = f"The model in {folder}"
    try:
        params = model.variables["params"]
        if "linear" in params["head"]:
            classes = params["head"]["linear"]["kernel"].shape[1] - 1
        else:
            classes = len(params[REPRESENTATIVES])
    except (KeyError, TypeError) as error:
        raise UserError(f"{where} is not a detector: it lacks {error}.") from error
    network = build_network(config, classes, in_test=True)
    side = config.data.image_size
    check_variables(network, model.variables, (side, side, config.data.channels), where)
    return TrainedDetector(config, network, model.variables, classes, model.step)
