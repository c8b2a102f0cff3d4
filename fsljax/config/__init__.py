"""Typed configuration: sections with bounds, read once from what a config file gives."""

from fsljax.config.checks import check_experiment
from fsljax.config.fields import field, section, seed
from fsljax.config.reading import config_dict, field_names, flat, free_names, nearest, plain, read
from fsljax.config.sections import Augmentation, Checkpoint, Data, Experiment, Mesh, Network, Train

__all__ = ["Augmentation", "Checkpoint", "Data", "Experiment", "Mesh", "Network", "Train", "check_experiment",
           "config_dict", "field", "field_names", "flat", "free_names", "nearest", "plain", "read",
           "section", "seed"]  # fmt: skip
