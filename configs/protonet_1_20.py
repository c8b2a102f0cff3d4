"""Omniglot, trained for 1-shot episodes on all classes that are not for testing.

With --config.data.train_on=train it is validated by 20-way accuracy instead.
"""

from ml_collections import ConfigDict

from fsljax.methods import protonet


def get_config() -> ConfigDict:
    config = protonet.default_config()
    config.name = "protonet_1_20"
    config.data.train_on = "train_and_validation"
    config.train.update(
        {
            "steps": 20_200,
            "restarts": (12_000, 19_000),
            "way": 60,
            "shot": 1,
            "queries": 5,
            "support_turns": 6,
        }
    )
    config.train.update({"learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 200})
    config.augment.update({"rotation": 15.0, "scale": 0.15, "shear": 0.2, "shift": 2.0})
    config.augment.stop_at = 19_000  # the last cycle is on drawings as they are
    config.validation.update({"way": 20, "shot": 1})
    return config
