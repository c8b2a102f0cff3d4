"""Few-shot detection in small scenes of characters of fonts: offline, and in minutes."""

from ml_collections import ConfigDict

from fsljax.methods import repmet_detector


def get_config() -> ConfigDict:
    config = repmet_detector.default_config()
    config.name = "repmet_detection_glyphs"
    config.data.update({"drawings": "glyphs", "train_on": "train_and_validation", "image_size": 64})
    config.scenes.update({"size": 64, "characters": (1, 3), "sides": (16.0, 32.0), "fragments": (1, 6)})
    config.network.update({"name": "scene_net", "momentum": 0.95})
    config.pyramid.update({"channels": 32, "extra_levels": 0})
    config.proposals.update({"sizes": (16.0, 24.0, 32.0), "sampled": 64, "before_nms": 64})
    config.proposals.update({"keep": 24, "keep_in_test": 24})
    config.rois.update({"sampled": 24, "positive_fraction": 0.5, "jittered": 3})
    config.rois.update({"canonical_size": 1e4, "canonical_level": 0})
    config.head.update({"hidden": 192, "dim": 64})
    config.representatives.update({"per_class": 1, "rate": 10.0})
    config.train.update({"images": 16, "steps": 1_000, "learning_rate": 2e-3, "warmup_steps": 100})
    config.eval.update({"images": 256, "episodes": 20})
    return config
