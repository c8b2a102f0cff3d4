"""The detector with a linear head, by which the baselines of few-shot detection are run."""

from __future__ import annotations

from dataclasses import replace

import jax

from fsljax.detection.config import Config
from fsljax.detection.model import stored
from fsljax.detection.model.trained import TrainedDetector
from fsljax.errors import UserError
from fsljax.storage.paths import given_path


def check_baseline(config: Config) -> None:
    """Raises a UserError if the detector that `config.eval.baseline` names cannot be the baseline."""
    folder = given_path(config.eval.baseline, "config.eval.baseline")
    baseline = stored.read_config(folder)
    if baseline.head.kind != "linear" and not baseline.loss.linear:
        raise UserError(
            f"The detector in {folder} has no linear head, which the baselines need: train one with "
            "--config.head.kind=linear --config.loss.linear=0.0."
        )
    if baseline.head.has_class_boxes():
        raise UserError(
            f"The detector in {folder} regresses boxes per trained class, so it cannot predict boxes for new "
            "classes: train one with --config.head.class_boxes=False."
        )
    names = ["image_size", "channels"]
    if config.eval.base_classes or config.eval.novel_shots:
        names += ["base", "novel", "folds", "fold"]  # its trained classes compete by their numbers
    for name in names:
        if getattr(baseline.data, name) != getattr(config.data, name):
            raise UserError(
                f"The detector in {folder} was trained with data.{name} {getattr(baseline.data, name)}, this "
                f"one with {getattr(config.data, name)}: give a baseline trained on the same data."
            )


def load_baseline(config: Config) -> TrainedDetector:
    """The detector that `config.eval.baseline` names, which `check_baseline` looked at.

    Raises:
      UserError: if it cannot be read.
    """
    baseline = stored.load(given_path(config.eval.baseline, "config.eval.baseline"))
    options = baseline.config.eval
    by_features = replace(options, enrol=replace(options.enrol, space="features"))
    return replace(
        baseline,
        config=replace(baseline.config, eval=by_features),
        variables=jax.device_put(baseline.variables),
    )
