"""Stanford Dogs on the frozen features of a MobileNetV2: Magnet, one linear layer trained.

Needs the weights: --config.network.weights=FILE (.safetensors or .npz, torchvision's names).
"""

from ml_collections import ConfigDict

from fsljax.methods import magnet


def get_config() -> ConfigDict:
    config = magnet.default_config()
    config.name = "magnet_dogs_mnv2F_1_12_4"
    config.data.update({"name": "stanford_dogs", "image_size": 224, "channels": 3})
    config.network.update({"name": "mobilenet_v2", "trainable": "head", "embedding": (256,)})
    config.network.update({"padding": "same", "input_mean": (0.5,), "input_std": (0.5,)})
    config.train.update({"steps": 3_000, "clusters": 12, "examples": 4})
    config.train.update({"clusters_per_class": 1, "refresh_every": 100})
    config.eval.clusters_per_class = 1
    config.train.update({"learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 100})
    return config
