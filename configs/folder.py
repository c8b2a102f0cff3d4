"""Names photographs: --config.data.path=DIR, a folder a class. Nothing is trained.

Classes are told apart by the features of a network that knows photographs, --config.network.weights=NAME or
FILE; --config.train.steps=500 trains an embedding on top (--config.train.by=softmax, prototypical, repmet or
magnet).
"""

from ml_collections import ConfigDict

from fsljax.methods import pretrained


def get_config() -> ConfigDict:
    config = pretrained.default_config()
    config.name = "folder"
    config.data.update({"name": "folder", "path": "", "image_size": 224})
    config.network.update({"name": "efficientnet_lite0", "weights": "efficientnet_lite0"})
    config.network.unless_described = ("network.name", "network.padding", "data.image_size")
    config.train.update({"by": "softmax", "clusters": 12, "examples": 4, "learning_rate": 1e-3})
    return config
