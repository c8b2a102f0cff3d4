"""Omniglot's classes with one representative each, tested in episodes of classes that were never trained.

The network and the classes that are trained are those of `protonet_1_5`; so are the images of a step, 60
classes of 6. With --config.data.train_on=train it is validated by 5-way 1-shot accuracy instead.
"""

from ml_collections import ConfigDict

from fsljax.methods import repmet


def get_config() -> ConfigDict:
    config = repmet.default_config()
    config.name = "repmet_omniglot_1_5"
    config.data.update({"split_by": "classes", "train_on": "train_and_validation"})
    config.network.normalize = False
    config.loss.sigma = 1.0
    config.representatives.update({"per_class": 1, "start": "random", "normalize": False, "rate": 3.0})
    config.train.update({"steps": 8_000, "clusters": 60, "examples": 6})
    config.train.update({"learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 200})
    config.augment.update({"rotation": 15.0, "scale": 0.15, "shear": 0.2, "shift": 2.0})
    config.validation.update({"way": 5, "shot": 1})
    config.eval.support_representatives = 1
    return config
