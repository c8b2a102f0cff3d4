"""Tiny ImageNet at 32 pixels from TFDS-ready files, classes split 128/32/40."""

from ml_collections import ConfigDict

from fsljax.methods import protonet


def get_config() -> ConfigDict:
    config = protonet.default_config()
    config.name = "protonet_tiny_imagenet"
    config.data.update({"name": "tiny_imagenet", "image_size": 32, "channels": 3})
    config.train.update({"steps": 5_000, "way": 20, "shot": 5, "queries": 5, "support_turns": 2})
    config.train.update({"learning_rate": 1e-3, "schedule": "cosine"})
    config.augment.update({"flip": True, "shift": 3.0})
    config.validation.update({"way": 5, "shot": 5, "queries": 15, "episodes": 600})
    config.eval.update({"ways": (5, 20), "shots": (1, 5)})
    return config
