"""Characters of fonts, 200 classes: triplet, beside `magnet_glyphs_2`, under the same budget."""

from ml_collections import ConfigDict

from fsljax.methods import triplet


def get_config() -> ConfigDict:
    config = triplet.default_config()
    config.name = "triplet_glyphs_2"
    config.data.update({"name": "glyphs", "max_classes": 200, "train_on": "train_and_validation"})
    config.train.update({"steps": 2_000, "clusters": 12, "examples": 4})
    config.train.update({"learning_rate": 2e-3, "schedule": "cosine", "warmup_steps": 100})
    config.augment.update({"rotation": 10.0, "scale": 0.1, "shear": 0.1, "shift": 1.0})
    config.eval.clusters_per_class = 2
    return config
