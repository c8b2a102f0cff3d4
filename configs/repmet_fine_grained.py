"""RepMet on fine-grained data sets: --config=configs/repmet_fine_grained.py:pets_r18F_1_12_4

The argument: data set, backbone, representatives a class, classes in a batch, examples of each. Without a
backbone it is a small ResNet from scratch at 64 pixels. F: one linear layer is trained on frozen features;
L: the whole network, at 160 pixels; LU: the same from scratch. F and L need --config.network.weights=FILE
(.safetensors or .npz, torchvision's names).
"""

from ml_collections import ConfigDict

from fsljax.config.experiments import OF_WEIGHTS, OF_WEIGHTS_AND_SIZE, choose
from fsljax.methods import repmet

EXPERIMENTS = (
    "flowers_1_12_4", "flowers_3_12_4", "flowers_mnv2F_1_12_4", "flowers_mnv2F_3_12_4",
    "flowers_mnv2L_1_12_4", "flowers_mnv2L_3_12_4", "flowers_inc3F_1_12_4", "flowers_inc3F_3_12_4",
    "flowers_inc3L_1_12_4", "flowers_inc3LU_1_12_4", "flowers_r18F_1_12_4", "flowers_r18L_3_12_4",
    "pets_1_12_4", "pets_mnv2F_1_12_4", "pets_r18F_1_12_4",
    "dogs_1_12_4", "dogs_mnv2F_1_12_4", "dogs_inc3F_1_12_4", "dogs_r18F_1_12_4",
)  # fmt: skip
DATA = {"flowers": "oxford_flowers102", "pets": "oxford_iiit_pet", "dogs": "stanford_dogs"}
BACKBONES = {
    "": {"name": "resnet_small"},
    "mnv2": {"name": "mobilenet_v2", "padding": "same", "input_mean": (0.5,), "input_std": (0.5,)},
    "inc3": {"name": "inception_v3", "input_mean": (0.5,), "input_std": (0.5,)},
    "r18": {"name": "resnet18", "input_mean": (0.485, 0.456, 0.406), "input_std": (0.229, 0.224, 0.225)},
}
STRONG = {"crop_scale": 0.3, "flip": True, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2}
TRAINING = {
    "": {
        "data": {"image_size": 64},
        "network": {"unless_described": OF_WEIGHTS_AND_SIZE},
        "train": {"steps": 6_000, "warmup_steps": 100},
        "augment": STRONG,
    },
    "LU": {"data": {"image_size": 160}, "train": {"steps": 6_000, "warmup_steps": 100}, "augment": STRONG},
    "L": {
        "data": {"image_size": 160},
        "train": {"steps": 1_200, "warmup_steps": 100, "learning_rate": 3e-4},
        "augment": STRONG,
    },
    "F": {
        "data": {"image_size": 224},
        "network": {"trainable": "head", "views": 8, "unless_described": OF_WEIGHTS_AND_SIZE},
        "train": {"steps": 3_000},
        "augment": {"crop_scale": 0.4, "flip": True},
        "checkpoint": {"every": 200},
    },
}
FURTHER = {
    "flowers_mnv2F": {"train": {"steps": 1_200}},
    "flowers_mnv2L": {"network": {"frozen_statistics": True}},
    "flowers_inc3F": {"data": {"image_size": 299}},
    "dogs_inc3F": {"data": {"image_size": 299}},
}


def get_config(name: str = "") -> ConfigDict:
    data, *networks, k, classes, examples = choose(name, EXPERIMENTS, __file__).split("_")
    network = "".join(networks)
    backbone = network.rstrip("FLU")
    config = repmet.default_config()
    config.name = f"repmet_{name}"
    config.data.update({"name": DATA[data], "channels": 3})
    config.network.update(BACKBONES[backbone], embedding=(256,), unless_described=OF_WEIGHTS)
    config.loss.sigma = 0.3
    config.representatives.update({"per_class": int(k), "start": "random"})
    config.train.update({"clusters": int(classes), "examples": int(examples)})
    config.train.update({"learning_rate": 1e-3, "schedule": "cosine"})
    config.eval.clusters_per_class = int(k)
    config.update(TRAINING[network.removeprefix(backbone)])
    config.update(FURTHER.get(f"{data}_{network}", {}))
    return config
