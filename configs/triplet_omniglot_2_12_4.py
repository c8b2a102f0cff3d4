"""Omniglot's characters as classes, drawings divided: triplet, beside `magnet_omniglot_2_12_4`.

With --config.data.merge=pairs or alphabets the classes are coarse ones, and the test tells how well the
characters within them are told apart.
"""

from ml_collections import ConfigDict

from fsljax.methods import triplet


def get_config() -> ConfigDict:
    config = triplet.default_config()
    config.name = "triplet_omniglot_2_12_4"
    config.data.update({"name": "omniglot", "train_on": "train_and_validation"})
    config.train.update({"steps": 2_000, "clusters": 12, "examples": 4})
    config.train.update({"learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 100})
    config.augment.update({"rotation": 10.0, "scale": 0.1, "shear": 0.1, "shift": 1.0})
    config.eval.clusters_per_class = 2
    return config
