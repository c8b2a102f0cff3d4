"""Oxford-IIIT Pets on the frozen features of a ResNet-18: Magnet, one linear layer trained.

Needs the weights: --config.network.weights=FILE (.safetensors or .npz, torchvision's names).
"""

from ml_collections import ConfigDict

from fsljax.methods import magnet


def get_config() -> ConfigDict:
    config = magnet.default_config()
    config.name = "magnet_pets_r18F_1_12_4"
    config.data.update({"name": "oxford_iiit_pet", "image_size": 224, "channels": 3})
    config.network.update({"name": "resnet18", "trainable": "head", "embedding": (256,)})
    config.network.update({"input_mean": (0.485, 0.456, 0.406), "input_std": (0.229, 0.224, 0.225)})
    config.train.update({"steps": 3_000, "clusters": 12, "examples": 4})
    config.train.update({"clusters_per_class": 1, "refresh_every": 100})
    config.eval.clusters_per_class = 1
    config.train.update({"learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 100})
    return config
