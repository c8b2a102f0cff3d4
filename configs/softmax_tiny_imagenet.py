"""Tiny ImageNet at 32 pixels, a small ResNet: softmax; a backbone for pictures of that size."""

from ml_collections import ConfigDict

from fsljax.methods import softmax


def get_config() -> ConfigDict:
    config = softmax.default_config()
    config.name = "softmax_tiny_imagenet"
    config.data.update({"name": "tiny_imagenet", "image_size": 32, "channels": 3})
    config.network.name = "resnet_small"
    config.network.unless_described = ("network.name", "data.image_size")
    config.train.update({"steps": 8_000, "clusters": 16, "examples": 8, "weight_decay": 5e-4})
    config.train.update({"optimizer": "sgd", "learning_rate": 0.1, "schedule": "cosine", "warmup_steps": 200})
    config.augment.update({"shift": 4.0, "flip": True})
    config.checkpoint.every = 1_000
    return config
