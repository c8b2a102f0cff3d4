"""Omniglot's characters as classes, drawings divided: RepMet, three representatives a class.

With --config.data.merge=pairs or alphabets the classes are coarse ones, over whose characters the
representatives can spread: purity, in the results, tells how far.
"""

from ml_collections import ConfigDict

from fsljax.methods import repmet


def get_config() -> ConfigDict:
    config = repmet.default_config()
    config.name = "repmet_omniglot_3_48_4"
    config.data.update({"name": "omniglot", "train_on": "train_and_validation"})
    config.loss.sigma = 0.3
    config.representatives.update({"per_class": 3, "start": "clusters", "rate": 3.0})
    config.train.update({"steps": 6_000, "clusters": 48, "examples": 4})
    config.train.update({"learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 100})
    config.augment.update({"rotation": 10.0, "scale": 0.1, "shear": 0.1, "shift": 1.0})
    config.eval.clusters_per_class = 3
    return config
