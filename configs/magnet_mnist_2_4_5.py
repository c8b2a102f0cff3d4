"""MNIST, LeNet: Magnet with two clusters a class."""

from ml_collections import ConfigDict

from fsljax.methods import magnet


def get_config() -> ConfigDict:
    config = magnet.default_config()
    config.name = "magnet_mnist_2_4_5"
    config.data.update({"name": "mnist"})
    config.network.update({"name": "lenet"})
    config.train.update({"steps": 2_000, "clusters": 4, "examples": 5})
    config.train.update({"clusters_per_class": 2, "refresh_every": 200})
    config.eval.clusters_per_class = 2
    config.train.update({"learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 100})
    return config
