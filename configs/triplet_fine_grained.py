"""Triplet on fine-grained data sets: --config=configs/triplet_fine_grained.py:flowers_mnv2F_1_12_4

One linear layer is trained on the frozen features of an ImageNet MobileNetV2, whose weights it needs:
--config.network.weights=FILE (.safetensors or .npz, torchvision's names).
"""

from ml_collections import ConfigDict

from fsljax.config.experiments import OF_WEIGHTS_AND_SIZE, choose
from fsljax.methods import triplet

EXPERIMENTS = {
    "flowers_mnv2F_1_12_4": {
        "data": {"image_size": 224},
        "network": {"trainable": "head", "views": 8, "unless_described": OF_WEIGHTS_AND_SIZE},
        "train": {"steps": 1_200, "learning_rate": 1e-3},
        "augment": {"crop_scale": 0.4, "flip": True},
        "checkpoint": {"every": 200},
    },
}


def get_config(name: str = "") -> ConfigDict:
    name = choose(name, EXPERIMENTS, __file__)
    config = triplet.default_config()
    config.name = f"triplet_{name}"
    config.data.update({"name": "oxford_flowers102", "channels": 3})
    config.network.update({"name": "mobilenet_v2", "padding": "same", "embedding": (256,)})
    config.network.update({"input_mean": (0.5,), "input_std": (0.5,)})
    config.train.update({"clusters": 12, "examples": 4, "schedule": "cosine"})
    config.update(EXPERIMENTS[name])
    return config
