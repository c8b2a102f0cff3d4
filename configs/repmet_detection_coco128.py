"""Real photographs through the whole path: 128 images of COCO are overfitted, on a CPU.

Give --config.data.path=DIR and --config.network.weights=FILE (MobileNetV2 of ImageNet).
"""

from ml_collections import ConfigDict

from fsljax.methods import repmet_detector


def get_config() -> ConfigDict:
    config = repmet_detector.default_config()
    config.name = "repmet_detection_coco128"
    config.data.update({"name": "coco", "channels": 3, "image_size": 320})
    config.data.update({"train_on": "train_and_validation", "drop_bad_boxes": True})
    config.network.update({"name": "mobilenet_v2", "padding": "same", "frozen_statistics": True})
    config.network.update({"input_mean": (0.5,), "input_std": (0.5,)})
    config.network.unless_described = (
        "network.name", "network.padding", "network.input_mean", "network.input_std",
    )  # fmt: skip
    config.pyramid.update({"channels": 64, "extra_levels": 0})
    # An octave from 8 pixels at stride 4, two anchors a level.
    config.proposals.update({"sizes": (8.0, 16.0, 24.0, 40.0, 56.0, 96.0, 144.0, 240.0)})
    config.proposals.update({"before_nms": 200, "keep": 200, "keep_in_test": 300})
    config.rois.update({"sampled": 64, "positive_fraction": 0.5, "jittered": 2})
    config.rois.update({"canonical_size": 112.0, "canonical_level": 2})
    config.head.update({"hidden": 512})
    config.representatives.update({"per_class": 3, "rate": 10.0})
    config.loss.linear = 0.5
    config.train.update({"images": 4, "steps": 4_000, "learning_rate": 5e-4, "warmup_steps": 200})
    config.train.update({"optimizer": "adamw", "weight_decay": 1e-4})
    config.eval.update({"images": 128, "training_images": True})
    return config
