"""Oxford Flowers, a ResNet-18 trained through at 160 pixels, with augmentation: RepMet,
three representatives a class.

Needs the weights: --config.network.weights=FILE (.safetensors or .npz, torchvision's names).
"""

from ml_collections import ConfigDict

from fsljax.methods import repmet


def get_config() -> ConfigDict:
    config = repmet.default_config()
    config.name = "repmet_flowers_r18L_3_12_4"
    config.data.update({"name": "oxford_flowers102", "image_size": 160, "channels": 3})
    config.network.update({"name": "resnet18", "embedding": (256,)})
    config.network.update({"input_mean": (0.485, 0.456, 0.406), "input_std": (0.229, 0.224, 0.225)})
    config.loss.sigma = 0.3
    config.representatives.update({"per_class": 3, "start": "random"})
    config.train.update({"steps": 1_200, "clusters": 12, "examples": 4})
    config.train.update({"learning_rate": 3e-4, "schedule": "cosine", "warmup_steps": 100})
    config.eval.clusters_per_class = 3
    config.augment.update({"crop_scale": 0.3, "flip": True})
    config.augment.update({"brightness": 0.2, "contrast": 0.2, "saturation": 0.2})
    return config
