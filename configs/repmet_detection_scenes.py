"""Few-shot detection in scenes of Omniglot's characters, on a CPU: the base characters and their detector."""

from ml_collections import ConfigDict

from fsljax.methods import repmet_detector


def get_config() -> ConfigDict:
    config = repmet_detector.default_config()
    config.name = "repmet_detection_scenes"
    config.data.train_on = "train_and_validation"
    config.network.update({"name": "scene_net", "momentum": 0.97})
    config.pyramid.update({"channels": 64, "extra_levels": 0})
    config.proposals.update({"sizes": (24.0, 40.0, 64.0), "before_nms": 128, "keep": 48, "keep_in_test": 48})
    config.rois.update({"sampled": 32, "positive_fraction": 0.5, "jittered": 3})
    # All regions from the finest level: the others serve proposals, and context.
    config.rois.update({"canonical_size": 1e4, "canonical_level": 0})
    config.head.update({"hidden": 320, "dim": 256})
    # The softmax of distances ("v2") over all classes, and a linear classifier beside it.
    config.loss.update({"sigma": 0.75, "version": "v2", "alpha": 0.0, "embedding_sigma": 0.25})
    config.loss.update({"embedding": 0.5, "linear": 0.5, "boxes": 3.0})
    # New classes are told apart better by what the embedding is made of than by the embedding.
    config.eval.enrol.update({"space": "features", "sigma": 0.85})
    config.representatives.update({"per_class": 1, "rate": 10.0})
    config.train.update({"images": 16, "steps": 6_000, "learning_rate": 1e-3, "warmup_steps": 200})
    return config
