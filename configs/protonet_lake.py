"""Lake's one-shot task, learned from Omniglot's 964 background characters alone.

The minimal background sets of five alphabets: --config=configs/protonet_lake.py:small1, or :small2. The files
are in --config.data.path=DIR (all_runs.zip, images_background….zip, or what these unpack to), or downloaded.
With --config.data.train_on=train five alphabets are held out for validation, one of a minimal set's.
"""

from ml_collections import ConfigDict

from fsljax.config.experiments import choose
from fsljax.methods import protonet

# Mirrored and turned characters count as further ones, and so does a character whose drawings are all moved
# alike: from so many the network learns to tell characters apart, not these characters.
FULL = {
    "data": {"background": "all", "image_size": 48},
    "train": {"steps": 9_000},
    "augment": {"shift": 4.5, "elastic": 2.5, "stop_at": 8_200},
    "class_augment": {"elastic": 3.5, "stop_at": 8_200},
}
MINIMAL = {
    "train": {"steps": 3_000},
    "augment": {"shift": 2.5, "elastic": 1.5, "stop_at": 2_700},
    "class_augment": {"elastic": 2.0, "stop_at": 2_700},
}
EXPERIMENTS = {
    "": FULL,
    "small1": {**MINIMAL, "data": {"background": "small1", "image_size": 28}},
    "small2": {**MINIMAL, "data": {"background": "small2", "image_size": 28}},
}


def get_config(name: str = "") -> ConfigDict:
    name = choose(name, EXPERIMENTS, __file__)
    config = protonet.default_config()
    config.name = f"protonet_lake_{name}".rstrip("_")
    config.data.update({"name": "omniglot_lake", "train_on": "train_and_validation", "symmetries": 8})
    config.network.name = "resnet_small"
    config.train.update({"way": 20, "shot": 1, "queries": 5, "support_turns": 6})
    config.train.update({"episodes_per_step": 3, "within_alphabet": 0.5})
    config.train.update({"learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 200})
    config.augment.update({"rotation": 15.0, "scale": 0.2, "stretch": 0.2, "shear": 0.25})
    config.class_augment.update({"rotation": 20.0, "scale": 0.2, "stretch": 0.3, "shear": 0.3})
    config.validation.update({"way": 20, "shot": 1, "queries": 5, "within_alphabet": 1.0})
    config.eval.update({"views": 8, "views_share": 0.5})
    config.checkpoint.every = 1_000
    config.update(EXPERIMENTS[name])
    return config
