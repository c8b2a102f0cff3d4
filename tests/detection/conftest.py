"""The small detector that the tests of applications share."""

from __future__ import annotations

import pytest

from fsljax.api import Detector
from fsljax.detection.model.trained import TrainedDetector
from tests.detection.small_detector import untrained


@pytest.fixture(scope="module")
def trained() -> TrainedDetector:
    return untrained()


@pytest.fixture
def detector(trained: TrainedDetector) -> Detector:
    return Detector(trained)
