"""Softmax on fine-grained data sets: --config=configs/softmax_fine_grained.py:flowers_mnv2F_1_12_4

F: one linear layer is trained on frozen features; L: the whole network, at 160 pixels. Both need the weights
of an ImageNet MobileNetV2, --config.network.weights=FILE (.safetensors or .npz, torchvision's names).
"""

from ml_collections import ConfigDict

from fsljax.config.experiments import OF_WEIGHTS, OF_WEIGHTS_AND_SIZE, choose
from fsljax.methods import softmax

EXPERIMENTS = {
    "flowers_mnv2F_1_12_4": {
        "data": {"image_size": 224},
        "network": {"trainable": "head", "views": 8, "unless_described": OF_WEIGHTS_AND_SIZE},
        "train": {"steps": 1_200, "learning_rate": 1e-3},
        "augment": {"crop_scale": 0.4, "flip": True},
        "checkpoint": {"every": 200},
    },
    "flowers_mnv2L_1_12_4": {
        "data": {"image_size": 160},
        "network": {"frozen_statistics": True, "unless_described": OF_WEIGHTS},
        "train": {"steps": 600, "learning_rate": 3e-4, "warmup_steps": 100},
        "augment": {"crop_scale": 0.3, "flip": True, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2},
    },
}


def get_config(name: str = "") -> ConfigDict:
    name = choose(name, EXPERIMENTS, __file__)
    config = softmax.default_config()
    config.name = f"softmax_{name}"
    config.data.update({"name": "oxford_flowers102", "channels": 3})
    config.network.update({"name": "mobilenet_v2", "padding": "same", "embedding": (256,)})
    config.network.update({"input_mean": (0.5,), "input_std": (0.5,)})
    config.train.update({"clusters": 12, "examples": 4, "schedule": "cosine"})
    config.update(EXPERIMENTS[name])
    return config
