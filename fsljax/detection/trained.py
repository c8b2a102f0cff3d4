"""A detector as a run left it in its workdir."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from fsljax.detection.model.detector import Detector
from fsljax.errors import UserError
from fsljax.methods import repmet_detector
from fsljax.training import workdir
from fsljax.training.checkpoints import Checkpoints


class StoredDetector(NamedTuple):
    """What a workdir holds.

    Attributes:
      config: of the run.
      network: that proposes as many regions as are looked at in tests.
      variables: parameters, with representatives where it has them, and batch statistics.
      step: of the checkpoint.
    """

    config: ConfigDict
    network: Detector
    variables: dict[str, Any]
    step: int


def read_config(folder: Path) -> ConfigDict:
    """The config of a detector's run.

    Raises:
      UserError: if there is none, or it cannot be read.
    """
    path = folder / workdir.CONFIG
    try:
        content = json.loads(path.read_text())
        if content["method"] != "repmet_detector":
            raise UserError(f"{folder} holds a run of the method {content['method']!r}, not a detector's.")
        # Fields that came after the run was made have their defaults.
        config = repmet_detector.default_config()
        with config.unlocked():
            config.update(ConfigDict(content))
        repmet_detector.build_network(config, 2)
    except OSError:
        raise UserError(
            f"There is no detector in {folder}: give the workdir of a run, or a folder written by save."
        ) from None
    except UserError:
        raise
    except Exception as error:  # damage comes as many types
        raise UserError(f"{path} cannot be read: {type(error).__name__}, {error}.") from error
    return config


def load(folder: Path) -> StoredDetector:
    """Reads the best checkpoint of a detector's run.

    Raises:
      UserError: if there is none, or it cannot be read.
    """
    config = read_config(folder)
    model = Checkpoints(folder).restore_model()
    linear = model.variables["params"]["head"].get("linear")
    # Representatives are no part of the network; a linear head is.
    classes = 2 if linear is None else linear["kernel"].shape[1] - 1
    network = repmet_detector.build_network(config, classes, in_test=True)
    return StoredDetector(config, network, model.variables, model.step)
