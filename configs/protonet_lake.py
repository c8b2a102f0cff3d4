"""Lake's one-shot task, learned from Omniglot's 964 background characters alone.

The minimal background sets of five alphabets: --config=configs/protonet_lake.py:small1, or :small2. The files
are in --config.data.path=DIR (all_runs.zip, images_background….zip, or what these unpack to), or downloaded.
With --config.data.train_on=train five alphabets are held out for validation, one of a minimal set's.
"""

from ml_collections import ConfigDict

from fsljax.config.experiments import choose
from fsljax.methods import protonet

EXPERIMENTS = {
    "": {"data": {"background": "all"}},
    "small1": {"data": {"background": "small1"}},
    "small2": {"data": {"background": "small2"}},
}


def get_config(name: str = "") -> ConfigDict:
    name = choose(name, EXPERIMENTS, __file__)
    config = protonet.default_config()
    config.name = f"protonet_lake_{name}".rstrip("_")
    config.data.update({"name": "omniglot_lake", "train_on": "train_and_validation"})
    config.train.update({"steps": 20_000, "way": 20, "shot": 1, "queries": 5, "support_turns": 6})
    config.train.update({"episodes_per_step": 3, "within_alphabet": 0.5})
    config.train.update({"learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 200})
    config.augment.update({"rotation": 15.0, "scale": 0.15, "shear": 0.2, "shift": 2.0})
    config.validation.update({"way": 20, "shot": 1, "queries": 5, "within_alphabet": 1.0})
    config.checkpoint.every = 2_000
    config.update(EXPERIMENTS[name])
    return config
