"""A detector looks at images by several devices as by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from fsljax.detection.evaluation import few_shot
from fsljax.detection.evaluation.base_classes import detect_known, embedded_boxes
from fsljax.methods.repmet_detector import RepMetDetector
from fsljax.training.steps import placed

from ...detection.evaluation.test_few_shot import make_method

DEVICES = 8
pytestmark = pytest.mark.slow


def by(method: RepMetDetector, devices: int) -> RepMetDetector:
    mesh = replace(method.config.mesh, devices=devices)
    return RepMetDetector(replace(method.config, mesh=mesh), method.data)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[RepMetDetector, RepMetDetector, Any]:
    method = make_method(
        tmp_path_factory.mktemp("episodes"),
        representatives__reset_until=100,
        representatives__reset_images=20,
        eval__images=12,
        eval__shots=(1,),
        eval__fine_tune_epochs=(0, 1),
    )
    state = jax.jit(method.init)(jax.random.key(0))
    return by(method, 1), by(method, DEVICES), state.replace(step=state.step + 1)


def test_detections_of_known_classes(both: Any):
    alone, several, state = both
    variables = state.inference_variables()
    theirs, ours = (
        detect_known(method.trained(variables), method.data, 12, seed=0) for method in (alone, several)
    )
    assert theirs.figures() == pytest.approx(ours.figures(), abs=1e-6)
    for one, other in zip(ours.detections, theirs.detections, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)
    theirs, ours = (embedded_boxes(method.trained(variables), method.data)[0] for method in (alone, several))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_representatives_are_reset_alike(both: Any):
    alone, several, state = both
    theirs, ours = (
        method.refresh(state, placed(method.training_data({}), 1.0)).params["representatives"]
        for method in (alone, several)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_episodes_have_the_same_figures(both: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(few_shot, "_WRITTEN", 3)
    alone, several, state = both
    variables = state.inference_variables()
    theirs, ours = (
        few_shot.evaluate(method.trained(variables), method.data.novel_images).test
        for method in (alone, several)
    )
    for setting, figures in theirs.items():
        assert ours[setting] == pytest.approx(figures, abs=1e-5, nan_ok=True)
