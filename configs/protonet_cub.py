"""CUB-200-2011, --config.data.path=DIR of its usual layout: 100/50/50 classes of birds."""

from ml_collections import ConfigDict

from fsljax.methods import protonet


def get_config() -> ConfigDict:
    config = protonet.default_config()
    config.name = "protonet_cub"
    config.data.update({"name": "folder", "path": "", "image_size": 84, "channels": 3})
    config.train.update({"steps": 40_000, "way": 20, "shot": 5, "queries": 15})
    config.train.update({"learning_rate": 1e-3, "schedule": "halving", "halving_steps": 10_000})
    config.augment.update({"flip": True, "shift": 4.0, "brightness": 0.1, "contrast": 0.3})
    config.checkpoint.every = 1_000
    config.validation.update({"way": 5, "shot": 5, "queries": 15, "episodes": 600})
    config.eval.update({"ways": (5,), "shots": (1, 5)})
    return config
