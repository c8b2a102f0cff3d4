"""Omniglot, 5-shot: the network trained for 1-shot episodes, trained on with 5-shot episodes.

Every drawing is the query once, the other five its support; drawings stay as they are. With
--config.data.train_on=train it is validated by 20-way accuracy; start it then from a network that was
trained on the same part.
"""

from ml_collections import ConfigDict

from fsljax.methods import protonet


def get_config() -> ConfigDict:
    config = protonet.default_config()
    config.name = "protonet_5_20"
    config.data.train_on = "train_and_validation"
    config.network.init_from = "models/protonet_1_5"
    config.train.update({"steps": 1_200, "way": 60, "shot": 5, "queries": 1, "support_turns": 6})
    config.train.update({"learning_rate": 5e-4, "schedule": "cosine", "warmup_steps": 50})
    config.validation.update({"way": 20, "shot": 5})
    return config
