"""Characters of fonts, 200 classes: RepMet with three representatives a class, offline and in minutes."""

from ml_collections import ConfigDict

from fsljax.methods import repmet


def get_config() -> ConfigDict:
    config = repmet.default_config()
    config.name = "repmet_glyphs_3"
    config.data.update({"name": "glyphs", "max_classes": 200, "train_on": "train_and_validation"})
    config.loss.sigma = 0.3
    config.representatives.update({"per_class": 3, "start": "random"})
    config.train.update({"steps": 2_000, "clusters": 12, "examples": 4})
    config.train.update({"learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 100})
    config.augment.update({"rotation": 10.0, "scale": 0.1, "shear": 0.1, "shift": 1.0})
    config.eval.clusters_per_class = 3
    return config
