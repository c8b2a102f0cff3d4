"""Regular detection on PASCAL VOC 2007 + 2012, ResNet-50; --config.network.weights=FILE, for a GPU."""

from ml_collections import ConfigDict

from fsljax.methods import repmet_detector


def get_config() -> ConfigDict:
    config = repmet_detector.default_config()
    config.name = "repmet_detection_voc"
    config.data.update({"name": "voc", "channels": 3, "image_size": 512})
    config.data.update({"train_split": "trainval", "test_split": "test"})
    config.data.update({"train_on": "train_and_validation", "drop_bad_boxes": True})
    config.network.update({"name": "resnet50", "frozen_statistics": True})
    config.network.update({"input_mean": (0.485, 0.456, 0.406), "input_std": (0.229, 0.224, 0.225)})
    config.network.unless_described = ("network.name", "network.input_mean", "network.input_std")
    config.proposals.update({"before_nms": 2_000, "keep": 1_000})
    config.rois.update({"sampled": 512, "positive_fraction": 0.25})
    config.loss.linear = 1.0
    config.train.update({"images": 8, "steps": 25_000, "flip": True, "optimizer": "sgd"})
    config.train.update({"learning_rate": 0.01, "weight_decay": 1e-4, "warmup_steps": 500})
    config.eval.update({"images": 4_952, "score_threshold": 0.01})
    return config
