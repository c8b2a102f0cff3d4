"""Checks of fields of several sections against each other."""

from __future__ import annotations

import math

from fsljax.config.sections import Data, Experiment
from fsljax.errors import UserError


def check_experiment(config: Experiment) -> None:
    """Raises a UserError for values that contradict each other, before anything is loaded or compiled."""
    _check_division(config.data)
    if config.data.channels == 1 and (config.augment.saturation or config.augment.hue):
        raise UserError(
            "config.augment.saturation and config.augment.hue change colours, but "
            "config.data.channels is 1: set both to 0."
        )
    if config.train.weight_decay and config.train.optimizer == "adam":
        raise UserError(
            f"config.train.weight_decay is {config.train.weight_decay}, but the optimizer adam "
            "has no weight decay: use adamw or sgd, or set it to 0."
        )
    for name in ("shift", "elastic"):
        pixels = getattr(config.augment, name)
        if pixels > config.data.image_size:
            raise UserError(
                f"config.augment.{name} is {pixels} pixels, more than config.data.image_size, "
                f"{config.data.image_size}: no part of an image would remain visible."
            )
    if config.train.patience and config.data.train_on == "train_and_validation":
        raise UserError(
            f"config.train.patience is {config.train.patience}, but with "
            "config.data.train_on=train_and_validation no validation split is left: set "
            "patience to 0, or train on train."
        )
    if sorted(set(config.train.restarts)) != list(config.train.restarts):
        raise UserError(f"config.train.restarts is {config.train.restarts}; its steps must increase.")


def _check_division(data: Data) -> None:
    if len(data.fractions) != 3 or not math.isclose(sum(data.fractions), 1, abs_tol=1e-6):
        raise UserError(
            f"config.data.fractions is {data.fractions}; it must hold the fractions of train, "
            "validation and test, which sum to 1."
        )
    if data.max_classes == 1:
        raise UserError("config.data.max_classes is 1; it must be 0 (all classes), or 2 or more.")
    if data.split_by != "examples":
        for name, value in (("merge", data.merge), ("max_classes", data.max_classes)):
            if value:
                raise UserError(
                    f"config.data.{name} is {value!r}, which needs splits that share their "
                    "classes: set --config.data.split_by=examples."
                )
    if data.merge == "alphabets" and data.name != "omniglot":
        raise UserError(
            'config.data.merge is "alphabets", which only Omniglot has, but config.data.name '
            f"is {data.name!r}: give 'pairs'."
        )
