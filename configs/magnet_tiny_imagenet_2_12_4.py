"""Tiny ImageNet at 32 pixels: magnet, two clusters a class.

With --config.data.merge=pairs the classes are coarse ones, and the test tells how well the
original classes within them are told apart.
"""

from ml_collections import ConfigDict

from fsljax.methods import magnet


def get_config() -> ConfigDict:
    config = magnet.default_config()
    config.name = "magnet_tiny_imagenet_2_12_4"
    config.data.update({"name": "tiny_imagenet", "image_size": 32, "channels": 3})
    config.data.train_on = "train_and_validation"
    config.train.update({"steps": 1_500, "clusters": 12, "examples": 4, "clusters_per_class": 2})
    config.train.refresh_every = 500
    config.train.update({"learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 100})
    config.augment.update({"shift": 3.0, "flip": True})
    config.eval.clusters_per_class = 2
    return config
