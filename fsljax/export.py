"""Exports the model of a run: fsljax export --workdir=runs/NAME --to=models/NAME, or python -m fsljax.export

By default it copies the config and the best checkpoint's parameters and batch statistics, without optimiser
state: what `--mode=evaluate` and `fsljax.api.Classifier` need. With `--format=jax` or `--format=onnx` it
writes a classifier, or its embedder, as one file that runs without fsljax.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import jax
import numpy as np

from fsljax.classification import portable
from fsljax.classification.classifier import Classifier
from fsljax.detection.model import stored
from fsljax.errors import UserError
from fsljax.reporting import streams
from fsljax.storage.json_files import write_json
from fsljax.storage.paths import given_path, is_there
from fsljax.training import workdir
from fsljax.training.checkpoints import Checkpoints, Model
from fsljax.training.saved_model import LEARNED

_MODEL = "model"


def export(run: Path, target: Path, *, half: bool = False) -> Path:
    """Writes the model of a run to a new folder.

    Args:
      run: its workdir.
      target: the folder.
      half: parameters are rounded to half precision first: they are stored and computed in float32 as ever,
        but take about two thirds of the place.

    Returns:
      the checkpoint written.

    Raises:
      UserError: if there is no run, no checkpoint in it, something in the target folder already, or no way
        to write there.
    """
    run, target = given_path(run, "--workdir"), given_path(target, "--to")
    if not workdir.has_config(run):
        raise UserError(f"There is no run in {run}: give the --workdir of one.")
    stored = workdir.read_config(run)
    if target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file: give a new folder.")
    try:
        if target.exists() and any(target.iterdir()):
            raise UserError(f"{target} is not empty: give a new folder.")
    except OSError as error:
        raise UserError(f"{target} cannot be read ({error.strerror or error}): give a new folder.") from error
    checkpoints = Checkpoints(run)
    model = checkpoints.restore_model()
    try:
        target.mkdir(parents=True, exist_ok=True)
        write_json(target / workdir.CONFIG, stored)
        shipped = Checkpoints(target)
        shipped.write_model(_rounded(model) if half else model, checkpoints.selections()[model.step])
        shipped.close()
        if is_there(run / LEARNED):
            shutil.copyfile(run / LEARNED, target / LEARNED)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{target} cannot be written ({reason}): give another folder.") from error
    return shipped.path(model.step)


def export_file(run: Path, target: Path, format: str, *, embeddings: bool | None = None) -> Path:
    """Writes a classifier as one file that runs without fsljax; see `fsljax.api.Classifier.export`.

    Args:
      run: its workdir, a shipped model, or a saved classifier.
      target: the file.
      format: "jax" or "onnx".
      embeddings: whether the file gives embeddings; None: where no class is known.

    Raises:
      UserError: if there is no classifier in the folder; or as `Classifier.export`.
    """
    folder = given_path(run, "--workdir")
    if workdir.method_of(folder) == stored.METHOD:
        raise UserError(
            f"{folder} holds a detector, and only classifiers can be exported as {format}: use it with "
            "fsljax.api.Detector, or load it into your own code with fsljax.load_flax."
        )
    return Classifier.load(folder).export(given_path(target, "--to"), format, embeddings=embeddings)


def _rounded(model: Model) -> Model:
    """With parameters that float16 can hold."""

    def in_half(array: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            rounded = np.asarray(array).astype(np.float16).astype(np.float32)
        if not np.isfinite(rounded).all():
            raise ValueError(
                "a parameter exceeds the largest number in half precision, 65,504: leave --half out"
            )
        return rounded

    params = jax.tree.map(in_half, model.variables["params"])
    return model._replace(variables={**model.variables, "params": params})


def run(argv: list[str] | None = None, program: str = "python -m fsljax.export") -> int:
    """Ships what the arguments name; the exit status.

    Args:
      argv: the arguments; None: those of this process.
      program: how it is called, as help shows it.
    """
    parser = argparse.ArgumentParser(prog=program, description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workdir", type=Path, required=True, help="the run, or a saved model")
    parser.add_argument("--to", type=Path, required=True, help="a new folder, or for jax and onnx a new file")
    parser.add_argument(
        "--format", choices=(_MODEL, *portable.FORMATS), default=_MODEL,
        help="model (default): a folder that fsljax reads; jax: a file that jax.export reads; onnx: a file "
        "for onnxruntime and others. The jax and onnx files return class probabilities, or embeddings if the "
        "model knows no classes; a description is written beside them, FILE.json",
    )  # fmt: skip
    parser.add_argument(
        "--embeddings",
        action="store_true",
        help="for jax and onnx: return embeddings even if the model knows classes",
    )
    parser.add_argument(
        "--half",
        action="store_true",
        help="round parameters to half precision, which saves about a third of the space",
    )
    arguments = parser.parse_args(argv)
    try:
        print(_exported(arguments))
    except UserError as error:
        print(f"fsljax: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(f"Stopped: {arguments.to} may be incomplete.", file=sys.stderr)
        return 130
    return 0


def _exported(given: argparse.Namespace) -> Path:
    if given.format == _MODEL:
        if given.embeddings:
            raise UserError("--embeddings needs --format=jax or --format=onnx.")
        return export(given.workdir, given.to, half=given.half)
    if given.half:
        raise UserError("--half works only with --format=model: leave it out.")
    return export_file(given.workdir, given.to, given.format, embeddings=given.embeddings or None)


def main() -> None:
    streams.use()
    sys.exit(run())


if __name__ == "__main__":
    main()
