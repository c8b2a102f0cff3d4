"""Oxford Flowers on the frozen features of a MobileNetV2: softmax, one linear layer trained.

Needs the weights of an ImageNet MobileNetV2: --config.network.weights=FILE.
"""

from ml_collections import ConfigDict

from fsljax.methods import softmax


def get_config() -> ConfigDict:
    config = softmax.default_config()
    config.name = "softmax_flowers_mnv2F_1_12_4"
    config.data.update({"name": "oxford_flowers102", "image_size": 224, "channels": 3})
    config.network.update({"name": "mobilenet_v2", "trainable": "head", "embedding": (256,)})
    config.network.update({"padding": "same", "input_mean": (0.5,), "input_std": (0.5,)})
    config.train.update({"steps": 1_200, "clusters": 12, "examples": 4, "learning_rate": 1e-3})
    config.network.views = 8
    config.augment.update({"crop_scale": 0.4, "flip": True})
    config.checkpoint.every = 200
    return config
