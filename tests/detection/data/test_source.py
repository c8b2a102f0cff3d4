"""A detection set is found by its module's name, one's own too."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from fsljax import methods
from fsljax.config.modules import names
from fsljax.errors import UserError
from fsljax.methods import repmet_detector

OWN_SET = """
import numpy as np

from fsljax.detection.data.photographs import divided
from fsljax.detection.data.set_operations import collect, one_image


def load(config):
    def read_split(split, names):
        image = np.zeros((32, 32, 3), np.uint8)
        boxes, classes = [[2, 2, 9, 9], [10, 10, 20, 20]], ["cat", "dog"]
        images = [
            one_image(image, f"{split}{number}", split, (32, 32), boxes, classes, [False, False])
            for number in range(3)
        ]
        return collect(images, ("cat", "dog"))

    return divided(config, read_split)
"""


@pytest.fixture
def own_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The dotted name of a module outside the project."""
    (tmp_path / "own_sets").mkdir()
    (tmp_path / "own_sets" / "squares.py").write_text(OWN_SET)
    (tmp_path / "own_sets" / "without_load.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "own_sets.squares"
    for name in [name for name in sys.modules if name.split(".")[0] == "own_sets"]:
        del sys.modules[name]


def make_config(name: str) -> ConfigDict:
    config = repmet_detector.default_config()
    config.data.update({"name": name, "channels": 3, "image_size": 32})
    config.network.update({"name": "scene_net"})
    config.pyramid.extra_levels = 0
    config.proposals.sizes = (8.0, 12.0, 16.0)
    return config


def test_the_sets_that_there_are_have_a_module_each():
    assert names("fsljax.detection.data.sets") == ["coco", "imagenet_loc", "scenes", "voc"]


def test_a_set_of_ones_own_costs_one_module(own_set: str):
    config = methods.check(make_config(own_set))
    method: Any = methods.build(config, methods.load(config))
    assert method.data.class_names == ("cat", "dog")
    batch = next(method.data.test_images(3, 0))
    assert batch.images.shape == (3, 32, 32, 3)
    np.testing.assert_array_equal(batch.ground_truth.labels, [[0, 1]] * 3)


def test_a_set_that_is_not_there_and_one_without_load_are_told(own_set: str):
    with pytest.raises(UserError, match=r"there is no module .*\.voc2012\. Did you mean voc\?"):
        methods.check(make_config("voc2012"))
    with pytest.raises(UserError, match=r"own_sets\.without_load, which config\.data\.name .* no load"):
        methods.check(make_config("own_sets.without_load"))
