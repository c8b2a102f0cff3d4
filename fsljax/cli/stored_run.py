"""The config of a run that there is: --config=fsljax/cli/stored_run.py:WORKDIR"""

from __future__ import annotations

from ml_collections import ConfigDict

from fsljax import methods
from fsljax.config import Experiment, config_dict, read
from fsljax.errors import UserError
from fsljax.storage.paths import given_path
from fsljax.training import workdir


def get_config(folder: str) -> ConfigDict:
    """What a workdir keeps; fields that came after it was made have their defaults.

    Raises:
      UserError: if there is no run, or its config cannot be read.
    """
    path = given_path(folder, "--workdir")
    if not workdir.has_config(path):
        raise UserError(f"There is no run in {path}: give the --workdir of one, or its --config.")
    stored = workdir.read_config(path)
    typed: Experiment = read(methods.config_of(stored.get("method")), stored, complete=False)
    return config_dict(typed)
