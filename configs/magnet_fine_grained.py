"""Magnet on fine-grained data sets: --config=configs/magnet_fine_grained.py:flowers_mnv2F_1_12_4

The argument: data set, backbone, clusters a class, clusters in a batch, examples of each. Without a backbone
it is a small ResNet from scratch at 64 pixels. F: one linear layer is trained on frozen features; L: the
whole network, at 160 pixels. F needs --config.network.weights=FILE (.safetensors or .npz, torchvision's
names); the two of 24 clusters go on from a run of softmax, --config.network.init_from=WORKDIR.
"""

from ml_collections import ConfigDict

from fsljax.config.experiments import OF_WEIGHTS, OF_WEIGHTS_AND_SIZE, choose
from fsljax.methods import magnet

DATA = {"flowers": "oxford_flowers102", "pets": "oxford_iiit_pet", "dogs": "stanford_dogs"}
BACKBONES = {
    "": {"name": "resnet_small"},
    "mnv2": {"name": "mobilenet_v2", "padding": "same", "input_mean": (0.5,), "input_std": (0.5,)},
    "r18": {"name": "resnet18", "input_mean": (0.485, 0.456, 0.406), "input_std": (0.229, 0.224, 0.225)},
}
STRONG = {"crop_scale": 0.3, "flip": True, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2}
SCRATCH = {
    "data": {"image_size": 64},
    "network": {"unless_described": OF_WEIGHTS_AND_SIZE},
    "train": {"steps": 6_000, "refresh_every": 200, "warmup_steps": 100},
    "augment": STRONG,
}
FROZEN = {
    "data": {"image_size": 224},
    "network": {"trainable": "head", "unless_described": OF_WEIGHTS_AND_SIZE},
    "train": {"steps": 3_000, "refresh_every": 100, "warmup_steps": 100},
}
FLOWERS = {
    "data": {"image_size": 224},
    "network": {"trainable": "head", "views": 8, "normalize": True, "unless_described": OF_WEIGHTS_AND_SIZE},
    "train": {"steps": 1_200, "refresh_every": 20},
    "augment": {"crop_scale": 0.4, "flip": True},
    "checkpoint": {"every": 200},
}
AFTER_SOFTMAX = FLOWERS | {
    "train": {"steps": 600, "refresh_every": 10, "learning_rate": 3e-4},
    "loss": {"alpha": 0.3},
}
THROUGH_AFTER_SOFTMAX = {
    "data": {"image_size": 160},
    "network": {"frozen_statistics": True, "normalize": True},
    "train": {"steps": 300, "refresh_every": 50, "learning_rate": 1e-4, "warmup_steps": 50},
    "loss": {"alpha": 0.3},
    "augment": STRONG,
}
EXPERIMENTS = {
    "flowers_1_12_4": SCRATCH,
    "pets_1_12_4": SCRATCH,
    "dogs_1_12_4": SCRATCH,
    "flowers_mnv2F_1_12_4": FLOWERS,
    "flowers_mnv2F_1_24_2": AFTER_SOFTMAX,
    "flowers_mnv2L_1_24_2": THROUGH_AFTER_SOFTMAX,
    "flowers_r18F_1_12_4": FROZEN,
    "pets_mnv2F_1_12_4": FROZEN,
    "pets_r18F_1_12_4": FROZEN,
    "dogs_mnv2F_1_12_4": FROZEN,
    "dogs_r18F_1_12_4": FROZEN,
}


def get_config(name: str = "") -> ConfigDict:
    data, *network, k, clusters, examples = choose(name, EXPERIMENTS, __file__).split("_")
    config = magnet.default_config()
    config.name = f"magnet_{name}"
    config.data.update({"name": DATA[data], "channels": 3})
    config.network.update(BACKBONES["".join(network).rstrip("FL")], embedding=(256,))
    config.network.unless_described = OF_WEIGHTS
    config.train.update({"clusters": int(clusters), "examples": int(examples), "clusters_per_class": int(k)})
    config.train.update({"learning_rate": 1e-3, "schedule": "cosine"})
    config.eval.clusters_per_class = int(k)
    config.update(EXPERIMENTS[name])
    return config
