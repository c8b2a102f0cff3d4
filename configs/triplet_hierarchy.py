"""Recovery of a hierarchy by triplets: --config=configs/triplet_hierarchy.py:omniglot_2_12_4

Omniglot's characters as classes, drawings divided, or Tiny ImageNet at 32 pixels. With
--config.data.merge=pairs, or alphabets of Omniglot, the classes are coarse ones, and the test measures how
well the original classes within them are told apart. The budget is that of `magnet_hierarchy`.
"""

from ml_collections import ConfigDict

from fsljax.config.experiments import OF_WEIGHTS_AND_SIZE, choose
from fsljax.methods import triplet

EXPERIMENTS = {
    "omniglot_2_12_4": {
        "data": {"name": "omniglot"},
        "train": {"steps": 2_000},
        "augment": {"rotation": 10.0, "scale": 0.1, "shear": 0.1, "shift": 1.0},
    },
    "tiny_imagenet_2_12_4": {
        "data": {"name": "tiny_imagenet", "image_size": 32, "channels": 3},
        "network": {"unless_described": OF_WEIGHTS_AND_SIZE},
        "train": {"steps": 1_500},
        "augment": {"shift": 3.0, "flip": True},
    },
}


def get_config(name: str = "") -> ConfigDict:
    name = choose(name, EXPERIMENTS, __file__)
    config = triplet.default_config()
    config.name = f"triplet_{name}"
    config.data.train_on = "train_and_validation"
    config.train.update({"clusters": 12, "examples": 4})
    config.train.update({"learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 100})
    config.eval.clusters_per_class = 2
    config.update(EXPERIMENTS[name])
    return config
