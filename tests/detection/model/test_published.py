"""Detectors of published weights: configs in their layout, images at their size, files that are known."""

from __future__ import annotations

import numpy as np
import pytest

from fsljax.config import config_dict, read
from fsljax.detection.config import Config
from fsljax.detection.config.torchvision import LAYOUTS, as_torchvision
from fsljax.detection.model.build import build_network
from fsljax.detection.model.published import padded, published_detector, resized
from fsljax.errors import UserError
from fsljax.networks.pretrained.torchvision_files import FILES, known_file


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_makes_a_network(layout: str):
    values = as_torchvision(config_dict(Config()), f"fasterrcnn_{layout}")
    values.data.image_size = 64
    config = read(Config, values.to_dict())
    tested = build_network(config, 90, in_test=True).options.proposals
    assert (tested.keep, tested.before_nms) == ((150, 150) if "320" in layout else (1000, 1000))
    assert build_network(config, 90).options.proposals.keep == 2000
    assert not config.rois.aligned and config.proposals.anchors == "corners"


def test_a_layout_that_is_none_is_refused():
    with pytest.raises(UserError, match=r"no layout 'resnet50'.*Did you mean resnet50_fpn"):
        as_torchvision(config_dict(Config()), "resnet50")


def test_weights_that_are_not_there_are_asked_for_by_their_address():
    for name in ("fasterrcnn_resnet50_fpn", "torchvision/fasterrcnn_resnet50_fpn"):
        with pytest.raises(UserError, match=r"Download https://\S+fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"):
            published_detector(name)


def test_files_are_known_by_their_digests():
    known = known_file("258fb6c6" + 56 * "0")
    assert known is FILES["fasterrcnn_resnet50_fpn"] and known.description.network["epsilon"] == 0
    assert known_file("0" * 64) is None


def test_images_are_brought_to_size_and_padded():
    ramp = np.broadcast_to(np.arange(10, dtype=np.float32)[:, None, None] / 10, (10, 40, 3))
    doubled = resized(ramp, 20, 1000)
    assert doubled.shape == (20, 80, 3)
    np.testing.assert_allclose(doubled[1:-1, 0, 0], (np.arange(1, 19) - 0.5) / 20, atol=1e-6)
    assert resized(np.zeros((10, 40, 3), np.uint8), 20, 60).shape == (15, 60, 3)
    batch, sizes = padded([ramp, resized(ramp, 20, 1000)], 32)
    assert batch.shape == (2, 32, 96, 3) and sizes.tolist() == [[10, 40], [20, 80]]
    np.testing.assert_array_equal(batch[0, :10, :40], ramp)
    assert not batch[0, 10:].any() and not batch[0, :, 40:].any()
