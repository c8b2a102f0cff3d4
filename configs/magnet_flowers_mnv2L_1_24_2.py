"""Oxford Flowers, a MobileNetV2 trained through at 160 pixels with augmentation: magnet, on from another run.

Needs that run, of softmax: --config.network.init_from=WORKDIR.
"""

from ml_collections import ConfigDict

from fsljax.methods import magnet


def get_config() -> ConfigDict:
    config = magnet.default_config()
    config.name = "magnet_flowers_mnv2L_1_24_2"
    config.data.update({"name": "oxford_flowers102", "image_size": 160, "channels": 3})
    config.network.update({"name": "mobilenet_v2", "embedding": (256,), "frozen_statistics": True})
    config.network.update({"padding": "same", "input_mean": (0.5,), "input_std": (0.5,)})
    config.network.normalize = True
    config.train.update({"steps": 300, "clusters": 24, "examples": 2})
    config.train.update({"clusters_per_class": 1, "refresh_every": 50})
    config.train.update({"learning_rate": 1e-4, "schedule": "cosine", "warmup_steps": 50})
    config.loss.alpha = 0.3
    config.augment.update({"crop_scale": 0.3, "flip": True})
    config.augment.update({"brightness": 0.2, "contrast": 0.2, "saturation": 0.2})
    return config
