"""Prototypical networks on other few-shot benchmarks: --config=configs/protonet_few_shot.py:mini_imagenet

mini_imagenet: --config.data.path=DIR with train.csv, val.csv, test.csv and images/, 64/16/20 classes.
cub: CUB-200-2011, --config.data.path=DIR of its usual layout, 100/50/50 classes of birds.
cifar_fs: --config.data.path=DIR with data/ and splits/bertinetto/, 64/16/20 classes at 32 pixels.
tiny_imagenet: at 32 pixels, from TFDS-ready files, 128/32/40 classes.
"""

from ml_collections import ConfigDict

from fsljax.config.experiments import OF_WEIGHTS_AND_SIZE, choose
from fsljax.methods import protonet

PUBLISHED = {
    "train": {"steps": 40_000, "queries": 15, "schedule": "halving", "halving_steps": 10_000},
    "checkpoint": {"every": 1_000},
    "eval": {"ways": (5,)},
}
EXPERIMENTS = {
    "mini_imagenet": PUBLISHED | {
        "data": {"name": "folder", "image_size": 84},
        "augment": {"shift": 4.0},
    },
    "cub": PUBLISHED | {
        "data": {"name": "folder", "image_size": 84},
        "augment": {"shift": 4.0, "brightness": 0.1, "contrast": 0.3},
    },
    "cifar_fs": PUBLISHED | {
        "data": {"name": "folder", "image_size": 32},
        "augment": {"shift": 3.0},
    },
    "tiny_imagenet": {
        "data": {"name": "tiny_imagenet", "image_size": 32},
        "train": {"steps": 5_000, "queries": 5, "support_turns": 2, "schedule": "cosine"},
        "augment": {"shift": 3.0},
        "eval": {"ways": (5, 20)},
    },
}  # fmt: skip


def get_config(name: str = "") -> ConfigDict:
    name = choose(name, EXPERIMENTS, __file__)
    config = protonet.default_config()
    config.name = f"protonet_{name}"
    config.data.channels = 3
    config.network.unless_described = OF_WEIGHTS_AND_SIZE
    config.train.update({"way": 20, "shot": 5, "learning_rate": 1e-3})
    config.augment.flip = True
    config.validation.update({"way": 5, "shot": 5, "queries": 15, "episodes": 600})
    config.eval.shots = (1, 5)
    config.update(EXPERIMENTS[name])
    return config
