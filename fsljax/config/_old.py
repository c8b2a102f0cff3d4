"""Defaults and checks that every experiment shares; a method adds its own (`fsljax.methods`)."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from fsljax.errors import UserError

DATA_SETS = (
    "omniglot", "glyphs", "folder", "tiny_imagenet", "oxford_flowers102", "oxford_iiit_pet", "stanford_dogs",
    "mnist", "cifar100", "imagenet2012",
)  # fmt: skip
SPLIT_BY = ("classes", "examples")
MERGE = ("", "pairs", "alphabets")
OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "halving")
BATCH_STATISTICS = ("running", "episode")
TRAIN_ON = ("train", "train_and_validation")


def shared_config() -> ConfigDict:
    """Fields of every experiment, with their defaults."""
    return ConfigDict(
        {
            "name": "",  # of the experiment; the default workdir is runs/<name>
            "method": "",  # a module of fsljax.methods
            "seed": 0,
            "data": {
                "name": "omniglot",
                "data_dir": "",  # TFDS folder; "" is TFDS_DATA_DIR, else TFDS's own default
                "path": "",  # of a folder of images
                "image_size": 28,  # pixels a side
                "channels": 1,
                "train_on": "train",
                # "classes": the parts have different ones (few-shot); "examples": they share all of them.
                "split_by": "classes",
                # Of classes or examples, where the data do not say: of a folder, and of drawings.
                "fractions": (0.64, 0.16, 0.2),
                "validation_fraction": 0.1,  # of train, where a published set has no validation part
                "split_seed": 0,
                "max_classes": 0,  # chosen by the seed; 0: all. With split_by="examples", as is merge
                "merge": "",  # "pairs" of classes or "alphabets" (Omniglot) become one class
                "host_budget_gb": 8.0,  # larger published sets stay encoded (1 GB is 10⁹ bytes)
                "device_budget_gb": 4.0,  # images or features to train on that take more are streamed
                "workers": 0,  # processes that decode streamed images; 0: threads of this one
                "prefetch": 2,  # batches of them read ahead, by each worker
            },
            "network": {
                "name": "conv4",
                "filters": 64,
                "blocks": 4,
                "momentum": 0.99,
                "kernels": "auto",
                "init_from": "",  # a workdir or shipped model whose network training begins with
                "weights": "",  # .safetensors or .npz with torchvision's names that training begins with
                "trainable": "all",  # or "last_stage", or "head": the rest stays as it begins
                "frozen_statistics": False,  # batch norm keeps its running averages, and normalises by them
                "padding": "symmetric",  # as PyTorch's networks; "same": TensorFlow's
                "input_mean": (0.0,),  # taken from pixels in [0, 1]: one number, or one a channel
                "input_std": (1.0,),  # and what they are then divided by
                "embedding": (),  # units of the dense layers after the backbone
                "normalize": False,  # embeddings to length 1
                "feature_dropout": 0.0,  # share of a frozen backbone's features left out of a step
                "views": 0,  # changed views of each image for a frozen backbone; 0: the plain image
            },
            "train": {
                "steps": 10_000,
                "optimizer": "adam",
                "learning_rate": 1e-3,
                "weight_decay": 0.0,  # of adamw and sgd
                "schedule": "cosine",
                "warmup_steps": 0,  # from 0 to the learning rate; a shorter run ends on the way
                "halving_steps": 2_000,  # of the halving schedule
                "restarts": (),  # steps at which the cosine begins anew, at half the rate before
                "ema": 0.0,  # share of the averaged weights kept at each step; 0: no averaging
                "log_every": 50,
                "steps_per_dispatch": 50,  # on accelerators; a CPU takes one at a time
            },
            "augment": {
                "rotation": 0.0,
                "scale": 0.0,
                "stretch": 0.0,
                "shear": 0.0,
                "shift": 0.0,
                "elastic": 0.0,
                "elastic_points": 4,
                "flip": False,
                "brightness": 0.0,
                "contrast": 0.0,
                "crop_scale": 1.0,
                "saturation": 0.0,
                "hue": 0.0,
                "stop_at": 0,  # step from which images stay as they are; 0: changed to the end
            },
            "checkpoint": {"every": 500, "keep_last": 2},
        }
    )


def check_shared(config: ConfigDict, data_sets: Sequence[str] = DATA_SETS) -> None:
    """Raises a UserError for a value that cannot work, before anything is loaded or compiled.

    Args:
      config: of the experiment.
      data_sets: that `config.data.name` can name.
    """
    check_choice(config, "data.name", data_sets)
    check_choice(config, "data.train_on", TRAIN_ON)
    check_choice(config, "data.split_by", SPLIT_BY)
    check_choice(config, "data.merge", MERGE)
    check_choice(config, "train.optimizer", OPTIMIZERS)
    check_choice(config, "train.schedule", SCHEDULES)
    check_choice(config, "data.channels", (1, 3))
    check_at_least(
        config,
        1,
        "data.image_size", "network.filters", "network.blocks", "train.steps", "train.halving_steps",
        "train.log_every", "train.steps_per_dispatch", "checkpoint.every", "checkpoint.keep_last",
    )  # fmt: skip
    check_at_least(
        config,
        0,
        "train.warmup_steps", "train.weight_decay", "augment.stop_at", "data.fractions", "data.max_classes",
        "data.host_budget_gb", "data.device_budget_gb", "data.workers", "data.prefetch",
    )  # fmt: skip
    check_seeds(config, "seed", "data.split_seed")
    check_whole(config, "train.restarts")
    check_at_least(config, 2, "augment.elastic_points")
    for name in ("rotation", "scale", "stretch", "shear", "shift", "elastic", "brightness", "contrast",
                 "saturation", "hue"):  # fmt: skip
        check_at_least(config, 0, f"augment.{name}")
    check_share(config, "train.ema", "network.momentum", "network.feature_dropout")
    _check_division(config)
    if not 0 < config.augment.crop_scale <= 1:
        raise UserError(
            f"config.augment.crop_scale is {config.augment.crop_scale}; it must be above 0 and at most 1."
        )
    if config.data.channels == 1 and (config.augment.saturation or config.augment.hue):
        raise UserError(
            "config.augment.saturation and config.augment.hue change colours, but config.data.channels is 1: "
            "let both be 0."
        )
    if not 0 < config.train.learning_rate < math.inf:
        raise UserError(f"config.train.learning_rate is {config.train.learning_rate}; it must be above 0.")
    if sorted(set(config.train.restarts)) != list(config.train.restarts):
        raise UserError(f"config.train.restarts is {config.train.restarts}; its steps must rise.")


def _check_division(config: ConfigDict) -> None:
    data = config.data
    if not 0 < data.validation_fraction < 1:
        raise UserError(
            f"config.data.validation_fraction is {data.validation_fraction}; it must be between 0 and 1."
        )
    if data.max_classes == 1:
        raise UserError("config.data.max_classes is 1; it must be 0 (all classes), or 2 or more.")
    if data.split_by != "examples":
        for name in ("merge", "max_classes"):
            if data[name]:
                raise UserError(
                    f"config.data.{name} is {data[name]!r}, which needs parts that share their classes: "
                    "set --config.data.split_by=examples."
                )
    if data.merge == "alphabets" and data.name != "omniglot":
        raise UserError(
            f'config.data.merge is "alphabets", which Omniglot alone has, but config.data.name is '
            f"{data.name!r}: give 'pairs'."
        )


def check_at_least(config: ConfigDict, least: float, *names: str) -> None:
    """Raises a UserError if a number, or a number of a sequence, is below `least`."""
    for name in names:
        value = get(config, name)
        numbers = value if isinstance(value, tuple | list) else (value,)
        if not numbers:
            raise UserError(f"config.{name} is empty; it needs one number at least.")
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise UserError(f"config.{name} is {value!r}; it must hold numbers.")
            if not number >= least:
                raise UserError(f"config.{name} is {value}; it must be {least} or more.")


def check_share(config: ConfigDict, *names: str) -> None:
    """Raises a UserError if a value is not in [0, 1)."""
    for name in names:
        if not 0 <= get(config, name) < 1:
            raise UserError(
                f"config.{name} is {get(config, name)}; it must be from 0 up to, not including, 1."
            )


def check_whole(config: ConfigDict, *names: str) -> None:
    """Raises a UserError if one of a sequence's numbers is no whole number."""
    for name in names:
        if not all(isinstance(number, int) and not isinstance(number, bool) for number in get(config, name)):
            raise UserError(f"config.{name} is {get(config, name)!r}; it must hold whole numbers.")


def check_seeds(config: ConfigDict, *names: str) -> None:
    """Raises a UserError if a seed is not of 32 bits."""
    check_at_least(config, 0, *names)
    for name in names:
        if get(config, name) >= 2**32:
            raise UserError(f"config.{name} is {get(config, name)}; it must be below 2^32.")


def check_choice(config: ConfigDict, name: str, choices: Sequence[Any]) -> None:
    """Raises a UserError if a value is none of `choices`."""
    if get(config, name) not in choices:
        listed = ", ".join(map(repr, choices))
        raise UserError(f"config.{name} is {get(config, name)!r}; it can be {listed}.")


def get(config: ConfigDict, name: str) -> Any:
    """The value of a dotted name, such as "train.steps"."""
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def old_field_names(config: ConfigDict, prefix: str = "") -> list[str]:
    """Dotted names of all fields, such as "train.steps", and of the sections that hold them."""
    names = []
    for key, value in config.items():
        names.append(prefix + key)
        if isinstance(value, ConfigDict):
            names += old_field_names(value, f"{prefix}{key}.")
    return names


def check_fields(config: ConfigDict, default: ConfigDict) -> None:
    """Raises a UserError if the config lacks a field of the default one, or has another."""
    names, known = old_field_names(config), old_field_names(default)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UserError(f"config.{name} is no field of the method {config.method!r}.{hint}")
    missing = [name for name in known if name not in names]
    if missing:
        raise UserError(
            f"config.{missing[0]} is missing: let get_config() begin with "
            f"fsljax.methods.{config.method}.default_config()."
        )


def with_later_fields(config: ConfigDict) -> ConfigDict:
    """A stored config with those fields of a network, at their defaults, that were added after the first."""
    network, defaults = config.network, shared_config().network
    for name in defaults:
        if name not in network and name not in ("name", "filters", "blocks", "momentum", "kernels"):
            network[name] = defaults[name]
    return config


def dataclass_fields(kind: Any, **others: Any) -> dict[str, Any]:
    """The defaults of a dataclass, for a section of a config.

    Args:
      kind: the dataclass.
      others: defaults instead of its own; a field given as None is left out.
    """
    values = {field.name: others.get(field.name, field.default) for field in dataclasses.fields(kind)}
    return {name: value for name, value in values.items() if value is not None}


def dataclass_from(kind: Any, section: ConfigDict, **others: Any) -> Any:
    """A dataclass whose fields have the values that a section of a config has for them.

    Args:
      kind: the dataclass.
      section: may hold more than that; what it lacks has its default.
      others: values that do not come from there.
    """
    names = {field.name for field in dataclasses.fields(kind)} - set(others)
    held = {name: value for name, value in section.items() if name in names}
    lists = {name: tuple(value) for name, value in held.items() if isinstance(value, list)}
    return kind(**{**held, **lists, **others})
