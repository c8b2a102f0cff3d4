"""Steps whose batch grows with the devices that share it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsljax.training.method import Method

WORKS = ("prototypical", "one episode", "softmax", "triplet", "magnet", "repmet", "detector")
CLUSTERS, EXAMPLES, SIZE, CLASSES, IMAGES_A_CLASS = 12, 4, 64, 102, 8
IMAGES = 16  # of a detector


def made(work: str, devices: int, kernels: str = "auto") -> Method:
    """A method whose batch is as large for each of the devices, on images of noise.

    Prototypical: a 60-way 1-shot 5-query episode of 28 px for each, Conv-4; "one episode": one of 60 ways a
    device. Closed sets: 48 images of 64 px for each, ResNet-18. Detector: 16 scenes of 128 px for each.
    `kernels` as of `config.network.kernels`.
    """
    import numpy as np

    from fsljax import methods
    from fsljax.data.dataset import ImageDataset, Splits

    if work == "detector":
        import detector_step

        from configs.repmet_detection_scenes import get_config
        from fsljax.detection.data.sets.scenes import Scenes

        config = get_config()
        config.network.kernels = kernels
        config.train.images = IMAGES * devices
        checked: Any = methods.check(config)
        return methods.build(checked, Scenes(detector_step.drawings(), checked.scenes))
    from fsljax.methods import magnet, protonet, repmet, softmax, triplet

    modules = {"softmax": softmax, "triplet": triplet, "magnet": magnet, "repmet": repmet}
    if work in modules:
        config = modules[work].default_config()
        config.data.update({"image_size": SIZE, "channels": 3})
        config.network.name = "resnet18"
        config.train.update({"clusters": CLUSTERS * devices, "examples": EXAMPLES})
        classes, each, shape = CLASSES, IMAGES_A_CLASS, (SIZE, SIZE, 3)
    else:
        config = protonet.default_config()
        episodes, way = (devices, 60) if work == "prototypical" else (1, 60 * devices)
        config.train.update({"way": way, "shot": 1, "queries": 5})
        if episodes > 1:
            config.train.episodes_per_step = episodes
        classes, each, shape = 1200, 20, (28, 28, 1)
    config.network.kernels = kernels
    images = np.random.default_rng(0).integers(0, 256, (classes * each, *shape), np.uint8)
    labels = np.repeat(np.arange(classes, dtype=np.int32), each)
    part = ImageDataset(images, labels, tuple(map(str, range(classes))))
    return methods.build(methods.check(config), Splits(part, part, part))
