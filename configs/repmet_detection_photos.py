"""Few-shot detection on photographs, on a CPU: the base classes and their detector.

Give --config.data.path=DIR, with instances_train.json, instances_val.json and instances_novel.json.
"""

from ml_collections import ConfigDict

from fsljax.methods import repmet_detector


def get_config() -> ConfigDict:
    config = repmet_detector.default_config()
    config.name = "repmet_detection_photos"
    config.data.update({"name": "coco", "channels": 3, "image_size": 320, "drop_bad_boxes": True})
    config.data.novel = ("raccoon", "kangaroo", "banana", "king", "ace")
    config.data.novel_split = "novel"
    config.network.update({"name": "efficientnet_lite0", "weights": "efficientnet_lite0"})
    config.network.update({"frozen_statistics": True, "trainable": "last_stage"})
    config.pyramid.update({"channels": 96, "extra_levels": 0})
    # An octave from 12 pixels at stride 4, two anchors a level.
    config.proposals.update({"sizes": (12.0, 20.0, 32.0, 48.0, 72.0, 104.0, 152.0, 224.0)})
    config.proposals.update({"before_nms": 200, "keep": 200, "keep_in_test": 100})
    config.rois.update({"sampled": 64, "positive_fraction": 0.5, "jittered": 2})
    config.rois.update({"canonical_size": 112.0, "canonical_level": 2})
    config.head.update({"hidden": 512, "quality": True})
    config.representatives.update({"per_class": 3, "rate": 10.0})
    config.loss.linear = 0.5
    config.train.update({"images": 4, "steps": 9_000, "learning_rate": 5e-4, "warmup_steps": 300})
    config.train.update({"optimizer": "adamw", "weight_decay": 1e-4, "flip": True, "repeat_threshold": 0.1})
    config.augment.update({"zoom": (0.6, 2.0), "stretch": 0.2})
    config.augment.update({"brightness": 0.15, "contrast": 0.3, "saturation": 0.3, "hue": 0.03})
    config.eval.update({"images": 195, "least_boxes": 10, "shots": (1, 5, 10), "ceiling": True})
    config.eval.enrol.update({"space": "combined", "sigma": 0.55})
    return config
