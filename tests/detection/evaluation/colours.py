"""Photographs in VOC's layout whose classes are colours, a base and a novel object in each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fsljax import methods
from fsljax.methods import repmet_detector
from fsljax.methods.repmet_detector import RepMetDetector

from ..data.voc_folder import write_voc

NOVEL = {
    "blue": (0, 0, 255), "white": (255, 255, 255), "yellow": (255, 255, 0), "cyan": (0, 255, 255),
    "pink": (255, 0, 255),
}  # fmt: skip
BASE = {"red": (255, 0, 0), "green": (0, 255, 0), "grey": (128, 128, 128)}
SIDE = 48


def write_colours(root: Path, each: int = 8) -> Path:
    """So many images of each novel class, a base object of another colour beside the novel one."""
    random, images = np.random.default_rng(0), {}
    for kind, colour in NOVEL.items():
        for number in range(each):
            pixels = random.integers(0, 60, (SIDE, SIDE, 3)).astype(np.uint8)
            other = list(BASE)[number % len(BASE)]
            y, x = random.integers(1, 6, 2)
            pixels[y : y + 18, x : x + 18] = colour
            pixels[y + 22 : y + 40, x + 22 : x + 40] = BASE[other]
            objects = [
                (kind, (x + 1, y + 1, x + 18, y + 18), 0),
                (other, (x + 23, y + 23, x + 40, y + 40), 0),
            ]
            images[f"{kind}{number}"] = pixels, objects
    return write_voc(root, images)


def make_method(folder: Path, **evaluation: Any) -> RepMetDetector:
    """A small detector of the base colours; the rest of the path is that of the config."""
    config = repmet_detector.default_config()
    config.name = "small"
    config.head.kind = evaluation.pop("head", "repmet")
    config.data.update(evaluation.pop("data", {}))
    config.eval.enrol.update(evaluation.pop("enrol", {}))
    config.data.update({"name": "voc", "path": str(folder), "channels": 3, "image_size": 32})
    config.data.novel = () if config.data.folds else tuple(NOVEL)
    config.network.update({"name": "scene_net"})
    config.pyramid.update({"channels": 16, "extra_levels": 0})
    config.proposals.update({"sizes": (8.0, 12.0, 16.0), "sampled": 16, "before_nms": 32})
    config.proposals.update({"keep": 12, "keep_in_test": 12})
    config.rois.update({"sampled": 8, "output_size": 3, "canonical_size": 1e4, "canonical_level": 0})
    config.head.update({"hidden": 64, "dim": 32})
    config.train.update({"images": 2, "steps": 2})
    config.representatives.per_class = 2
    config.eval.update({"images": 4, "episodes": 2, "supports": 2, "queries": 2, "shots": (1, 2)})
    config.eval.episodes_file = str(folder / "episodes.json")
    config.eval.update(evaluation)
    typed = methods.check(config)
    method: Any = methods.build(typed, methods.load(typed))
    return method
