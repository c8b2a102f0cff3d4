"""Oxford Flowers on frozen features of a MobileNetV2: magnet, one linear layer trained on from another run.

Needs that run, of softmax with as many steps: --config.network.init_from=WORKDIR.
"""

from ml_collections import ConfigDict

from fsljax.methods import magnet


def get_config() -> ConfigDict:
    config = magnet.default_config()
    config.name = "magnet_flowers_mnv2F_1_24_2"
    config.data.update({"name": "oxford_flowers102", "image_size": 224, "channels": 3})
    config.network.update({"name": "mobilenet_v2", "trainable": "head", "embedding": (256,)})
    config.network.update({"padding": "same", "input_mean": (0.5,), "input_std": (0.5,)})
    config.train.update({"steps": 600, "clusters": 24, "examples": 2, "clusters_per_class": 1})
    config.train.update({"learning_rate": 3e-4, "refresh_every": 10})
    config.network.update({"views": 8, "normalize": True})
    config.augment.update({"crop_scale": 0.4, "flip": True})
    config.loss.alpha = 0.3
    config.checkpoint.every = 200
    return config
