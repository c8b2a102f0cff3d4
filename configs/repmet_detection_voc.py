"""Regular detection on PASCAL VOC 2007 + 2012, ResNet-50; --config.network.weights=FILE, for a GPU.

--config=configs/repmet_detection_voc.py:torchvision begins with a whole detector that torchvision published,
trained on COCO: --config.network.weights=fasterrcnn_resnet50_fpn_coco-258fb6c6.pth. Of its second version,
torchvision_v2; on a MobileNet, torchvision_mobilenet and torchvision_mobilenet_320.
"""

from ml_collections import ConfigDict

from fsljax.config.experiments import choose
from fsljax.detection.config.torchvision import as_torchvision
from fsljax.methods import repmet_detector

LAYOUTS = {
    "torchvision": "resnet50_fpn",
    "torchvision_v2": "resnet50_fpn_v2",
    "torchvision_mobilenet": "mobilenet_v3_large_fpn",
    "torchvision_mobilenet_320": "mobilenet_v3_large_320_fpn",
}
EXPERIMENTS = ("", *LAYOUTS)


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
    if name:
        as_torchvision(config, LAYOUTS[name])
        config.data.image_size = 320 if name.endswith("320") else 800
        config.network.unless_described = ()
    return config
