"""The paper's few-shot detection on ImageNet-LOC, with its published settings as far as they are known.

ResNet-101 with a pyramid (without deformable convolutions), embedding of 256, five representatives a class,
OHEM over 512 regions, an extra linear classifier, 12,000 proposals before suppression and 2,000 after it.
Give --config.data.path=DIR, --config.network.weights=FILE, and the base classes in --config.data.base.
"""

from ml_collections import ConfigDict

from fsljax.methods import repmet_detector


def get_config() -> ConfigDict:
    config = repmet_detector.default_config()
    config.name = "repmet_detection_imagenet_loc"
    config.data.update({"name": "imagenet_loc", "channels": 3, "image_size": 640})
    config.data.update({"train_on": "train_and_validation", "drop_bad_boxes": True})
    config.network.update({"name": "resnet101", "frozen_statistics": True})
    config.network.update({"input_mean": (0.485, 0.456, 0.406), "input_std": (0.229, 0.224, 0.225)})
    config.network.unless_described = ("network.name", "network.input_mean", "network.input_std")
    config.proposals.update({"before_nms": 12_000, "keep": 2_000})
    config.rois.update({"sampled": 2_000, "positive_fraction": 0.25})
    config.loss.update({"hard": 512, "linear": 1.0})
    config.representatives.update({"per_class": 5, "reset_every": 2_000, "reset_until": 6_001})
    config.train.update({"images": 4, "steps": 100_000, "flip": True, "optimizer": "sgd"})
    config.train.update({"learning_rate": 5e-3, "weight_decay": 1e-4, "warmup_steps": 1_000})
    config.eval.update({"images": 5_000, "iou_threshold": 0.3})
    return config
