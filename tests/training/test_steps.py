"""Steps on streamed data are the steps on data in memory, to the bit."""

from __future__ import annotations

import io
import multiprocessing
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from fsljax import data as data_sources
from fsljax import methods
from fsljax.classification import embedder
from fsljax.classification.task import LabelledBatch
from fsljax.data.dataset import Splits
from fsljax.data.io.encoded_images import EncodedImages
from fsljax.errors import UserError
from fsljax.methods import magnet, protonet, softmax, triplet
from fsljax.parallel.devices import Devices
from fsljax.training import steps
from fsljax.training.method import TrainingData
from fsljax.training.progress import Progress
from fsljax.training.state import TrainState
from fsljax.training.steps import Steps, placed

METHODS = [magnet, protonet, softmax, triplet]
STEPS, REFRESH = 9, 4
RUNNING = SimpleNamespace(requested=False)
STOPPING = SimpleNamespace(requested=True)


def make_config(module: ModuleType, data_dir: Path, **fields: Any) -> ConfigDict:
    config = module.default_config()
    config.data.update({"name": "cifar100", "data_dir": str(data_dir), "image_size": 8, "channels": 3})
    config.network.update({"filters": 4, "blocks": 2, "kernels": "xla"})
    config.augment.update({"flip": True, "brightness": 0.2})
    config.train.update({"steps": STEPS, "learning_rate": 1e-2, "schedule": "constant"})
    if module is protonet:
        config.data.fractions = (0.5, 0.25, 0.25)
        config.train.update({"way": 4, "shot": 1, "queries": 2, "episodes_per_step": 2})
        config.validation.update({"way": 3, "queries": 3, "episodes": 20})
        config.eval.update({"ways": (3,), "shots": (1, 2), "queries": 3, "episodes": 20})
    else:
        # More examples than a class has of a cluster's: some come twice.
        config.train.update({"clusters": 4, "examples": 5})
    if module is magnet:
        config.train.update({"clusters_per_class": 2, "refresh_every": REFRESH})
    config.update_from_flattened_dict(fields)
    return config


def start(config: ConfigDict, splits: Splits | None = None):
    method = methods.build(methods.check(config), splits or data_sources.load(config))
    state = jax.jit(method.init)(jax.random.key(config.seed))
    return method, state, method.training_data(state.inference_variables())


def go(
    method, config: ConfigDict, state: TrainState, data: TrainingData, first: int = 0, last: int = STEPS
) -> tuple[TrainState, dict[str, np.ndarray]]:
    """As the loop does, with a goal every three steps and at each refresh."""
    collected = []
    with Steps(method, config, data, Progress(STEPS, stream=io.StringIO())) as run_steps:
        while first < last:
            if method.refresh_every and first % method.refresh_every == 0:
                state = method.refresh(state, data)
            goal = min(last, first // 3 * 3 + 3, first // REFRESH * REFRESH + REFRESH)
            state, metrics = run_steps(state, first, goal, RUNNING)
            collected.append(metrics)
            first = goal
    return state, {name: np.concatenate([part[name] for part in collected]) for name in collected[0]}


def bits(state: TrainState) -> list[np.ndarray]:
    tree = (
        state.step,
        state.params,
        state.batch_stats,
        state.opt_state,
        state.ema_params,
        state.method_state,
    )
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def assert_same(ours: TrainState, wanted: TrainState) -> None:
    for one, other in zip(bits(ours), bits(wanted), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module", params=METHODS, ids=lambda module: module.__name__.split(".")[-1])
def in_memory(request, published_set: Path):
    """A method, its config, and the state and metrics of a run on images that lie on the device."""
    config = make_config(request.param, published_set, **{"train.ema": 0.5})
    method, state, data = start(config)
    data = placed(data, config.data.device_budget_gb)
    assert isinstance(data.inputs, jax.Array)
    return request.param, *go(method, config, state, data)


@pytest.fixture(params=[8.0, 0.0], ids=["decoded", "encoded"])
def streamed_fields(request) -> dict[str, Any]:
    return {"train.ema": 0.5, "data.host_budget_gb": request.param, "data.device_budget_gb": 0.0}


def test_streamed_steps_give_the_bits_of_steps_in_memory(
    in_memory, streamed_fields: dict[str, Any], published_set: Path, monkeypatch: pytest.MonkeyPatch
):
    module, wanted, wanted_metrics = in_memory
    monkeypatch.setattr(steps, "_DRAWN_AT_ONCE", 4)  # so that reading begins anew within the run
    config = make_config(module, published_set, **streamed_fields)
    method, state, data = start(config)
    data = placed(data, config.data.device_budget_gb)
    assert isinstance(data.inputs, EncodedImages if not config.data.host_budget_gb else np.ndarray)
    state, metrics = go(method, config, state, data)
    assert_same(state, wanted)
    assert metrics.keys() == wanted_metrics.keys()
    for name, values in metrics.items():
        np.testing.assert_array_equal(values, wanted_metrics[name])


def test_a_streamed_run_goes_on_from_any_step_with_the_same_bits(in_memory, published_set: Path):
    module, wanted, _ = in_memory
    fields = {"train.ema": 0.5, "data.host_budget_gb": 0.0, "data.device_budget_gb": 0.0}
    config = make_config(module, published_set, **fields)
    method, state, data = start(config)
    data = placed(data, 0.0)
    state, _ = go(method, config, state, data, last=5)
    assert_same(go(method, config, state, data, first=5)[0], wanted)


@pytest.mark.parametrize("module", METHODS)
def test_draws_that_are_known_before_hang_on_key_and_step_alone(module: ModuleType, published_set: Path):
    method, state, data = start(make_config(module, published_set))
    if not method.prefetchable:
        assert module is magnet
        return
    data, key, draw = placed(data, 4.0), state.key, jax.jit(method.draw)
    other = jax.jit(method.init)(jax.random.key(1)).replace(key=key)
    for step in (0, 7):
        one, another, bare = (
            draw(of.replace(step=np.int32(step)), data.index)
            for of in (state, other, steps._key_alone(state))
        )
        jax.tree.map(np.testing.assert_array_equal, one, another)
        jax.tree.map(np.testing.assert_array_equal, one, bare)


def test_a_request_to_stop_ends_after_a_step_and_leaves_no_reader(published_set: Path):
    config = make_config(softmax, published_set, **{"data.device_budget_gb": 0.0})
    method, state, data = start(config)
    with Steps(method, config, placed(data, 0.0), Progress(STEPS, stream=io.StringIO())) as run_steps:
        state, metrics = run_steps(state, 0, STEPS, STOPPING)
        assert len(metrics["loss"]) == int(state.step) == 1
    for thread in threading.enumerate():
        if thread.name.startswith("grain"):
            thread.join(10)
            assert not thread.is_alive()


def test_what_fits_lies_on_the_device_and_the_rest_on_the_host(published_set: Path):
    data = TrainingData(np.zeros((10, 100), np.uint8), {"labels": np.arange(10)})
    for budget, kind in ((1e-6, jax.Array), (0.99e-6, np.ndarray)):
        found = placed(data, budget)
        assert isinstance(found.inputs, kind)
        assert isinstance(found.index["labels"], jax.Array)


def test_features_of_a_frozen_backbone_are_held_to_the_budget_and_streamed(
    published_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    states = []
    for budget in (4.0, 0.0):
        config = make_config(
            magnet, published_set,
            **{"network.trainable": "head", "network.embedding": (8,), "network.views": 2,
               "network.feature_dropout": 0.25, "data.host_budget_gb": 0.0},
        )  # fmt: skip
        method, state, data = start(config)
        data = placed(data, budget)
        assert isinstance(data.inputs, jax.Array) == bool(budget)
        assert data.inputs.shape[:2] == (96, 2)
        states.append(go(method, config, state, data)[0])
    assert_same(*states)


@pytest.fixture
def sizes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many encoded images are decoded at once, each time."""
    read, sizes = EncodedImages.read, []

    def counting(self, index, **options):
        images = read(self, index, **options)
        sizes.append(int(np.prod(images.shape[:-3])))
        return images

    monkeypatch.setattr(EncodedImages, "read", counting)
    return sizes


ENCODED = {"data.host_budget_gb": 0.0, "data.device_budget_gb": 0.0}


def test_magnet_embeds_streamed_images_batch_by_batch(
    published_set: Path, sizes_read: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(embedder, "_IMAGES_A_BATCH", 16)
    config = make_config(magnet, published_set, **ENCODED)
    method, state, data = start(config)
    state = method.refresh(state, placed(data, 0.0))
    assert sizes_read == [16] * 6
    assert int(state.method_state.counts.sum()) == 96


@pytest.mark.parametrize("module", [protonet, pytest.param(magnet, marks=pytest.mark.slow)])
def test_encoded_images_are_evaluated_as_decoded_ones_without_being_in_memory_at_once(
    module: ModuleType, published_set: Path, sizes_read: list[int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(embedder, "_IMAGES_A_BATCH", 16)
    config = make_config(module, published_set, **ENCODED, **{"data.train_on": "train_and_validation"})
    method, state, _ = start(config)
    variables = state.inference_variables()
    evaluation = method.evaluate(variables)
    assert max(sizes_read) <= 100  # that a report looks through
    decoded = methods.build(methods.check(config), data_sources.load(make_config(module, published_set)))
    assert evaluation.test == decoded.evaluate(variables).test


@pytest.mark.slow
@pytest.mark.parametrize("module", [magnet, triplet])
def test_processes_that_decode_give_the_same_bits_and_end(
    module: ModuleType, published_set: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(steps, "_DRAWN_FOR_PROCESSES", 6)
    fields = {"data.host_budget_gb": 0.0, "data.device_budget_gb": 0.0, "data.workers": 2}
    states = []
    for given in ({}, fields):
        config = make_config(module, published_set, **given)
        method, state, data = start(config)
        states.append(go(method, config, state, placed(data, config.data.device_budget_gb))[0])
    assert_same(*states)
    assert not multiprocessing.active_children()


def test_a_method_that_says_nothing_of_devices_has_one():
    rows = np.zeros(8, np.int32)
    method, two = SimpleNamespace(draw=lambda *_: LabelledBatch(rows, rows)), Devices((None, None))
    assert steps.episodes_of(method) == 1
    assert len(steps.sharing(method, None, None, two, asked=False)) == 1
    with pytest.raises(UserError, match=r"SimpleNamespace does not define how 2 devices .*mesh\.devices=1"):
        steps.sharing(method, None, None, two)
