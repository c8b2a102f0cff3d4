"""COCO 2017, ResNet-50, for a GPU; --config.data.path=DIR --config.network.weights=FILE

DIR holds annotations/instances_train2017.json and instances_val2017.json, train2017/ and val2017/. Regular
detection of all 80 classes. --config=configs/repmet_detection_coco.py:few_shot is the published few-shot
protocol: 60 base classes are trained, and VOC's 20 are found beside them in the whole validation part, by 1,
2, 3, 5, 10 and 30 boxes each from the training part, over three drawings of these.
"""

from ml_collections import ConfigDict

from fsljax.config.experiments import choose
from fsljax.methods import repmet_detector

EXPERIMENTS = {
    "": (),
    "few_shot": (
        "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "boat", "bird", "cat", "dog",
        "horse", "sheep", "cow", "bottle", "chair", "couch", "potted plant", "dining table", "tv",
    ),
}  # fmt: skip


def get_config(name: str = "") -> ConfigDict:
    name = choose(name, EXPERIMENTS, __file__)
    config = repmet_detector.default_config()
    config.name = "repmet_detection_coco"
    config.data.update({"name": "coco", "channels": 3, "image_size": 640})
    config.data.update({"train_split": "train2017", "test_split": "val2017"})
    config.data.update({"train_on": "train_and_validation", "drop_bad_boxes": True})
    config.network.update({"name": "resnet50", "frozen_statistics": True})
    config.network.update({"input_mean": (0.485, 0.456, 0.406), "input_std": (0.229, 0.224, 0.225)})
    config.network.unless_described = ("network.name", "network.input_mean", "network.input_std")
    config.proposals.update({"before_nms": 2_000, "keep": 1_000})
    config.rois.update({"sampled": 512, "positive_fraction": 0.25})
    config.loss.linear = 1.0
    config.train.update({"images": 8, "steps": 90_000, "flip": True, "optimizer": "sgd"})
    config.train.update({"learning_rate": 0.01, "weight_decay": 1e-4, "warmup_steps": 1_000})
    config.eval.update({"images": 5_000, "score_threshold": 0.01})
    if name:
        config.name = f"repmet_detection_coco_{name}"
        config.data.novel = EXPERIMENTS[name]
        config.eval.update({"episodes": 0, "novel_shots": (1, 2, 3, 5, 10, 30), "seeds": (0, 1, 2)})
        config.eval.update({"novel_rule": "coco", "fine_tune_epochs": (0, 5)})
        config.eval.enrol.update({"space": "features", "sigma": 0.85})
    return config
