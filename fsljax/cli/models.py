"""What MODEL on a command line is: a model that was saved, or weights by name."""

from __future__ import annotations

from pathlib import Path

from fsljax.errors import UserError
from fsljax.networks.pretrained import KNOWN
from fsljax.networks.pretrained.hub import WEIGHTS
from fsljax.storage.paths import given_path, is_there
from fsljax.training import workdir

_DETECTOR = "repmet_detector"


def is_saved(model: str) -> bool:
    """Whether this is a folder, of a run or of a model; else it can only be weights."""
    folder = given_path(model, "MODEL")
    if not folder.is_dir() or is_there(folder / WEIGHTS):
        return False
    return workdir.has_config(folder) or model not in KNOWN


def check_is(model: str, *, detector: bool, instead: str = "") -> None:
    """Raises a UserError, which names the command to be used, for a model of the other kind, or for none.

    What else may be wrong with it is left to whoever loads it.

    Args:
      model: as it was given.
      detector: which kind it is to be.
      instead: what to use for the other kind; "": fsljax predict or fsljax detect.
    """
    if not is_saved(model):
        if is_weights(model):
            raise UserError(
                f"{model} are pretrained weights, which know no classes: teach them some with "
                f"fsljax enroll {model} DIR --to=FOLDER, then give FOLDER."
            )
        raise UserError(
            f"There is no model in {model}: give a run's workdir, or the folder of a saved model."
        )
    try:
        method = workdir.read_config(Path(given_path(model))).get("method")
    except UserError:
        return
    if (method == _DETECTOR) != detector:
        kind, command = ("no detector", "predict") if detector else ("a detector", "detect")
        raise UserError(f"{model} holds {kind}: use {instead or f'fsljax {command}'}.")


def is_weights(model: str) -> bool:
    """Whether this names weights, or a file of them."""
    path = given_path(model, "MODEL")
    return model in KNOWN or path.is_file() or (path.is_dir() and is_there(path / WEIGHTS))
