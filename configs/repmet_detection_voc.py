"""PASCAL VOC 2007 + 2012, ResNet-50, for a GPU; --config.data.path=VOCdevkit --config.network.weights=FILE

Regular detection of all 20 classes. --config=configs/repmet_detection_voc.py:split1 (split2, split3) is the
published few-shot protocol: 15 base classes are trained, and the five novel ones are found beside them in the
whole test part of 2007, by 1, 2, 3, 5 and 10 boxes each from the training part, over five drawings of these.
nap50_11point is the figure that others publish.

:torchvision begins with a whole detector that torchvision published, trained on COCO:
--config.network.weights=fasterrcnn_resnet50_fpn_coco-258fb6c6.pth. Of its second version, torchvision_v2; on
a MobileNet, torchvision_mobilenet and torchvision_mobilenet_320.
"""

from ml_collections import ConfigDict

from fsljax.config.experiments import choose
from fsljax.methods import repmet_detector

SPLITS = {
    "split1": ("bird", "bus", "cow", "motorbike", "sofa"),
    "split2": ("aeroplane", "bottle", "cow", "horse", "sofa"),
    "split3": ("boat", "cat", "motorbike", "sheep", "sofa"),
}
LAYOUTS = {
    "torchvision": "resnet50_fpn",
    "torchvision_v2": "resnet50_fpn_v2",
    "torchvision_mobilenet": "mobilenet_v3_large_fpn",
    "torchvision_mobilenet_320": "mobilenet_v3_large_320_fpn",
}
EXPERIMENTS = ("", *SPLITS, *LAYOUTS)


def get_config(name: str = "") -> ConfigDict:
    choose(name, EXPERIMENTS, __file__)
    config = repmet_detector.default_config()
    config.name = f"repmet_detection_voc_{name}".rstrip("_")
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
    if name in SPLITS:
        config.data.novel = SPLITS[name]
        config.eval.update({"episodes": 0, "novel_shots": (1, 2, 3, 5, 10), "seeds": (0, 1, 2, 3, 4)})
        config.eval.fine_tune_epochs = (0, 5)
        config.eval.enrol.update({"space": "features", "sigma": 0.85})
    if name in LAYOUTS:
        repmet_detector.as_torchvision(config, LAYOUTS[name])
        config.data.image_size = 320 if name.endswith("320") else 800
        config.network.unless_described = ()
    return config
