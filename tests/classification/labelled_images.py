"""A small data set of random images, and a setting that it can give episodes of."""

from __future__ import annotations

import numpy as np

from fsljax.data.dataset import ImageDataset
from fsljax.evaluation.episodic import Setting

SETTING = Setting(way=4, shot=3, queries=2)


def dataset(counts: tuple[int, ...] = (6, 5, 7, 5, 8, 6), seed: int = 0) -> ImageDataset:
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int32)
    images = generator.integers(0, 256, (len(labels), 4, 4, 1)).astype(np.uint8)
    return ImageDataset(images, labels, tuple(f"class {index}" for index in range(len(counts))))
