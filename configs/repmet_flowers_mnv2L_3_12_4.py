"""Oxford Flowers, a MobileNetV2 trained through at 160 pixels, with augmentation: RepMet,
three representatives a class.

Needs the weights: --config.network.weights=FILE (.safetensors or .npz, torchvision's names).
"""

from ml_collections import ConfigDict

from fsljax.methods import repmet


def get_config() -> ConfigDict:
    config = repmet.default_config()
    config.name = "repmet_flowers_mnv2L_3_12_4"
    config.data.update({"name": "oxford_flowers102", "image_size": 160, "channels": 3})
    config.network.update({"name": "mobilenet_v2", "embedding": (256,), "frozen_statistics": True})
    config.network.update({"padding": "same", "input_mean": (0.5,), "input_std": (0.5,)})
    config.loss.sigma = 0.3
    config.representatives.update({"per_class": 3, "start": "random"})
    config.train.update({"steps": 1_200, "clusters": 12, "examples": 4})
    config.train.update({"learning_rate": 3e-4, "schedule": "cosine", "warmup_steps": 100})
    config.eval.clusters_per_class = 3
    config.augment.update({"crop_scale": 0.3, "flip": True})
    config.augment.update({"brightness": 0.2, "contrast": 0.2, "saturation": 0.2})
    return config
