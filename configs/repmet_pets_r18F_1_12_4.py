"""Oxford-IIIT Pets on the frozen features of a ResNet-18: RepMet, one representative a class.

Needs the weights: --config.network.weights=FILE (.safetensors or .npz, torchvision's names).
"""

from ml_collections import ConfigDict

from fsljax.methods import repmet


def get_config() -> ConfigDict:
    config = repmet.default_config()
    config.name = "repmet_pets_r18F_1_12_4"
    config.data.update({"name": "oxford_iiit_pet", "image_size": 224, "channels": 3})
    config.network.update({"name": "resnet18", "trainable": "head", "embedding": (256,)})
    config.network.update({"input_mean": (0.485, 0.456, 0.406), "input_std": (0.229, 0.224, 0.225)})
    config.loss.sigma = 0.3
    config.representatives.update({"per_class": 1, "start": "random"})
    config.train.update({"steps": 3_000, "clusters": 12, "examples": 4})
    config.train.learning_rate = 1e-3
    config.network.views = 8
    config.augment.update({"crop_scale": 0.4, "flip": True})
    config.checkpoint.every = 200
    config.eval.clusters_per_class = 1
    return config
