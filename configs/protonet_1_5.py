"""Omniglot: prototypical network trained and validated for 1-shot, 5-way episodes."""

from ml_collections import ConfigDict

from fsljax.methods import protonet


def get_config() -> ConfigDict:
    config = protonet.default_config()
    config.name = "protonet_1_5"
    config.data.train_on = "train_and_validation"
    config.train.update({"steps": 20_000, "way": 60, "shot": 1, "queries": 5, "support_turns": 1})
    config.train.update({"learning_rate": 2e-3, "warmup_steps": 500, "schedule": "cosine"})
    config.augment.update({"rotation": 15.0, "scale": 0.15, "shear": 0.2, "shift": 2.0})
    config.validation.update({"way": 5, "shot": 1})
    return config
