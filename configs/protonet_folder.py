"""A folder of one's own images: --config.data.path=DIR, a folder a class, or train/ val/ test/ of these.

Classes are divided into training, validation and test by `data.fractions`, where the folders don't say.
"""

from ml_collections import ConfigDict

from fsljax.methods import protonet


def get_config() -> ConfigDict:
    config = protonet.default_config()
    config.name = "protonet_folder"
    config.data.update({"name": "folder", "path": "", "image_size": 64, "channels": 3})
    config.network.unless_described = ("data.image_size",)
    config.data.fractions = (0.5, 0.25, 0.25)  # of classes: twenty are enough for 5-way validation and test
    config.train.update({"steps": 2_000, "way": 5, "shot": 1, "queries": 5, "support_turns": 6})
    config.train.update({"learning_rate": 1e-3, "schedule": "cosine"})
    config.augment.update({"rotation": 10.0, "scale": 0.1, "shift": 4.0, "flip": True})
    config.augment.update({"brightness": 0.1, "contrast": 0.2})
    config.checkpoint.every = 200
    config.validation.update({"way": 5, "shot": 1, "queries": 5, "episodes": 500})
    config.eval.update({"ways": (5,), "shots": (1, 5), "queries": 5, "episodes": 2_000})
    return config
