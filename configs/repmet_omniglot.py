"""Omniglot's characters as classes, drawings divided, by RepMet: --config=configs/repmet_omniglot.py:3_48_4

The argument: representatives a class, classes in a batch, drawings of each. With --config.data.merge=pairs
or alphabets the classes are coarse ones, over whose characters the representatives can spread: purity, in the
results, says how far.
"""

from ml_collections import ConfigDict

from fsljax.config.experiments import choose
from fsljax.methods import repmet

EXPERIMENTS = ("1_48_4", "3_48_4", "5_48_4")


def get_config(name: str = "") -> ConfigDict:
    k, classes, drawings = map(int, choose(name, EXPERIMENTS, __file__).split("_"))
    config = repmet.default_config()
    config.name = f"repmet_omniglot_{name}"
    config.data.update({"name": "omniglot", "train_on": "train_and_validation"})
    config.loss.sigma = 0.3
    config.representatives.update({"per_class": k, "start": "clusters", "rate": 3.0})
    config.train.update({"steps": 6_000, "clusters": classes, "examples": drawings})
    config.train.update({"learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 100})
    config.augment.update({"rotation": 10.0, "scale": 0.1, "shear": 0.1, "shift": 1.0})
    config.eval.clusters_per_class = k
    return config
