"""Oxford Flowers, a small ResNet trained from scratch at 64 pixels: RepMet, one representative a class."""

from ml_collections import ConfigDict

from fsljax.methods import repmet


def get_config() -> ConfigDict:
    config = repmet.default_config()
    config.name = "repmet_flowers_1_12_4"
    config.data.update({"name": "oxford_flowers102", "image_size": 64, "channels": 3})
    config.network.update({"name": "resnet_small", "embedding": (256,)})
    config.loss.sigma = 0.3
    config.representatives.update({"per_class": 1, "start": "random"})
    config.train.update({"steps": 6_000, "clusters": 12, "examples": 4})
    config.train.update({"learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 100})
    config.eval.clusters_per_class = 1
    config.augment.update({"crop_scale": 0.3, "flip": True})
    config.augment.update({"brightness": 0.2, "contrast": 0.2, "saturation": 0.2})
    return config
