"""Optimisers, learning rates and the state of a run, against their formulas."""

from __future__ import annotations

import math
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from fsljax.classification.embedder import build_embedder
from fsljax.config import Experiment, config_dict
from fsljax.errors import UserError
from fsljax.methods import magnet
from fsljax.training.checkpoints import Checkpoints
from fsljax.training.optimizer import learning_rate, make_optimizer
from fsljax.training.state import TrainState

STEPS, RATE = 40, 0.1
GRADIENTS = np.random.default_rng(0).normal(size=(6, 3))


def make_config(**train: object) -> ConfigDict:
    config = config_dict(Experiment())
    config.train.update({"steps": STEPS, "learning_rate": RATE, "halving_steps": 8, **train})
    return config


def make_state(config: ConfigDict, *, averaging: bool = False) -> TrainState:
    params = {"w": jnp.array([1.0, -2.0, 0.5])}
    return TrainState.create(
        apply_fn=None,
        params=params,
        tx=make_optimizer(config),
        batch_stats={"mean": jnp.zeros(2)},
        ema_params=params if averaging else None,
        key=jax.random.key(3),
    )


def constant(step: int) -> float:
    return RATE


def cosine(step: int, length: int = STEPS) -> float:
    return RATE * 0.5 * (1 + math.cos(math.pi * min(step, length) / length))


def halving(step: int) -> float:
    return RATE * 0.5 ** (step // 8)


@pytest.mark.parametrize("formula", [constant, cosine, halving], ids=lambda formula: formula.__name__)
def test_schedules_follow_their_formulas(formula):
    rate = learning_rate(make_config(schedule=formula.__name__))
    for step in (0, 1, 7, 8, 9, 16, 23, 39, 40):
        assert float(rate(step)) == pytest.approx(formula(step), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "halving"])
def test_a_warmup_rises_linearly_and_the_schedule_begins_after_it(schedule: str):
    rate = learning_rate(make_config(schedule=schedule, warmup_steps=10))
    for step in range(10):
        assert float(rate(step)) == pytest.approx(RATE * step / 10, rel=1e-5)
    after = {"constant": constant, "cosine": lambda step: cosine(step, STEPS - 10), "halving": halving}
    for step in (10, 11, 17, 18, 30, 40):
        assert float(rate(step)) == pytest.approx(after[schedule](step - 10), rel=1e-5, abs=1e-8)


def test_the_cosine_begins_anew_at_half_the_rate_and_ends_with_the_run():
    rate = learning_rate(make_config(schedule="cosine", warmup_steps=4, restarts=(20, 32)))
    for step in range(4, 20):
        assert float(rate(step)) == pytest.approx(cosine(step - 4, 16), rel=1e-5, abs=1e-8)
    for step in range(20, 32):
        assert float(rate(step)) == pytest.approx(cosine(step - 20, 12) / 2, rel=1e-5, abs=1e-8)
    for step in range(32, STEPS + 1):
        assert float(rate(step)) == pytest.approx(cosine(step - 32, STEPS - 32) / 4, rel=1e-5, abs=1e-8)


def test_a_run_cut_short_has_no_restart_and_may_end_in_its_warmup():
    whole = learning_rate(make_config(schedule="cosine"))
    cut = learning_rate(make_config(schedule="cosine", restarts=(STEPS, 2 * STEPS)))
    warming = learning_rate(make_config(schedule="cosine", warmup_steps=2 * STEPS))
    for step in range(STEPS + 1):
        assert float(cut(step)) == float(whole(step))
        assert float(warming(step)) == pytest.approx(RATE * step / (2 * STEPS), rel=1e-5)


def adam(w: np.ndarray, rates: list[float], decay: float = 0.0) -> np.ndarray:
    first, second = np.zeros(3), np.zeros(3)
    for number, (gradient, rate) in enumerate(zip(GRADIENTS, rates, strict=True), start=1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        direction = (first / (1 - 0.9**number)) / (np.sqrt(second / (1 - 0.999**number)) + 1e-8)
        w = w - rate * (direction + decay * w)
    return w


def nesterov(w: np.ndarray, rates: list[float], decay: float) -> np.ndarray:
    momentum = np.zeros(3)
    for gradient, rate in zip(GRADIENTS, rates, strict=True):
        decayed = gradient + decay * w
        momentum = 0.9 * momentum + decayed
        w = w - rate * (decayed + 0.9 * momentum)
    return w


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize(
    ("optimizer", "formula"),
    [
        ("adam", lambda w, rates: adam(w, rates)),
        ("adamw", lambda w, rates: adam(w, rates, decay=0.3)),
        ("sgd", lambda w, rates: nesterov(w, rates, decay=0.3)),
    ],
)
def test_optimizers_follow_their_formulas(optimizer: str, formula, schedule: str):
    config = make_config(optimizer=optimizer, schedule=schedule, weight_decay=0.3, warmup_steps=2)
    state = make_state(config)
    for gradient in GRADIENTS:
        state = state.updated({"w": jnp.asarray(gradient)}, state.batch_stats, ema=0.0)
    rates = [float(learning_rate(config)(step)) for step in range(len(GRADIENTS))]
    np.testing.assert_allclose(state.params["w"], formula(np.array([1, -2, 0.5]), rates), rtol=1e-5)
    assert int(state.step) == len(GRADIENTS)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("trainable", ["all", "head"])
def test_parameters_of_a_name_have_a_multiple_of_the_learning_rate(optimizer: str, trainable: str):
    start = {"w": jnp.array([1.0, -2.0, 0.5]), "v": {"a": jnp.array([1.0, -2.0, 0.5])}}
    gradients = {"w": jnp.asarray(GRADIENTS[0]), "v": {"a": jnp.asarray(GRADIENTS[0])}}
    config = make_config(optimizer=optimizer, weight_decay=0.3)
    config.network.trainable = trainable
    moved = {}
    for rates in (None, {"v": 0.25, "not there": 2.0}):
        tx = make_optimizer(config, rates)
        updates, _ = tx.update(gradients, tx.init(start), start)
        moved[rates is None] = updates
    np.testing.assert_array_equal(moved[True]["w"], moved[False]["w"])
    np.testing.assert_array_equal(moved[True]["v"]["a"], moved[True]["w"])
    np.testing.assert_allclose(moved[False]["v"]["a"], 0.25 * moved[True]["v"]["a"], rtol=1e-6)


def test_averaged_parameters_keep_their_share_at_each_step():
    state = make_state(make_config(schedule="constant"), averaging=True)
    averaged = np.asarray(state.params["w"], np.float64)
    for gradient in GRADIENTS:
        state = state.updated({"w": jnp.asarray(gradient)}, state.batch_stats, ema=0.8)
        averaged = 0.8 * averaged + 0.2 * np.asarray(state.params["w"], np.float64)
    np.testing.assert_allclose(state.ema_params["w"], averaged, rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize(("trainable", "trained"), [("last_stage", {"block_3", "head"}), ("head", {"head"})])
def test_what_is_not_trained_keeps_every_bit(optimizer: str, trainable: str, trained: set[str]):
    config = make_config(optimizer=optimizer, weight_decay=0.3)
    config.network.trainable = trainable
    start = jnp.array([0.1, -0.0, 3e-40, -2.0])
    params = {"backbone": {"block_2": start, "block_3": start}, "head": start}
    state = TrainState.create(
        apply_fn=None, params=params, tx=make_optimizer(config), batch_stats={},
        ema_params=params, key=jax.random.key(3),
    )  # fmt: skip
    step = jax.jit(lambda state, gradients: state.updated(gradients, {}, ema=0.9))
    for number in range(3):
        state = step(state, jax.tree.map(lambda leaf, n=number: jnp.ones_like(leaf) + n, params))
    for tree in (state.params, state.ema_params):
        found = {"head": tree["head"], **tree["backbone"]}
        same = {name for name, leaf in found.items() if leaf.tobytes() == start.tobytes()}
        assert same == {"block_2", "block_3", "head"} - trained
        for name in trained:
            assert not np.any(np.asarray(found[name]) == start)


def test_a_state_with_frozen_parts_comes_back_from_its_checkpoint(tmp_path: Path):
    config = make_config()
    config.network.trainable = "head"
    tx = make_optimizer(config)

    def make(value: float) -> TrainState:
        params = {"backbone": {"block_0": jnp.full(3, value)}, "head": jnp.full(2, value)}
        state = TrainState.create(
            apply_fn=None, params=params, tx=tx, batch_stats={}, ema_params=None, key=jax.random.key(0)
        )
        return state.updated(params, {"mean": jnp.zeros(1)}, ema=0.0).replace(step=jnp.asarray(1, jnp.int32))

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(make(2.0), None)
    checkpoints.close()
    restored = Checkpoints(tmp_path).restore_last(make(1.0))
    assert restored is not None
    chex.assert_trees_all_equal(restored.opt_state, make(2.0).opt_state)
    chex.assert_trees_all_equal(restored.params, make(2.0).params)


def test_evaluation_reads_averaged_parameters_where_there_are_any():
    for averaging in (False, True):
        state = make_state(make_config(), averaging=averaging)
        state = state.updated({"w": jnp.ones(3)}, {"mean": jnp.full(2, 5.0)}, ema=0.5)
        variables = state.inference_variables()
        assert variables["params"] is (state.ema_params if averaging else state.params)
        np.testing.assert_array_equal(variables["batch_stats"]["mean"], [5, 5])


def test_without_averaging_there_is_no_second_set_of_parameters():
    state = make_state(make_config()).updated({"w": jnp.ones(3)}, {}, ema=0.0)
    assert state.ema_params is None


def test_every_step_has_a_key_of_its_own_that_a_restart_finds_again():
    state = make_state(make_config())
    keys = []
    for _ in range(5):
        keys.append(jax.random.key_data(state.step_key()).tolist())
        state = state.updated({"w": jnp.ones(3)}, {}, ema=0.0)
    assert len({tuple(key) for key in keys}) == 5
    resumed = make_state(make_config()).replace(step=3)
    assert jax.random.key_data(resumed.step_key()).tolist() == keys[3]


def test_a_backbone_is_taken_from_a_run_with_another_head():
    config = magnet.default_config()
    config.network.update({"filters": 4, "blocks": 2})
    bare = build_embedder(config, (8, 8, 1)).init(jax.random.key(0))
    config.network.update({"embedding": (3,), "trainable": "head"})
    headed = build_embedder(config, (8, 8, 1)).init(jax.random.key(1))
    started = headed.started_from(bare.inference_variables(), "there")
    taken = (started.params["backbone"], started.batch_stats["backbone"])
    assert jax.tree.all(jax.tree.map(np.array_equal, taken, (bare.params, bare.batch_stats)))
    assert np.array_equal(started.params["head"]["0"]["kernel"], headed.params["head"]["0"]["kernel"])
    back = bare.started_from(started.inference_variables(), "there")
    assert jax.tree.all(jax.tree.map(np.array_equal, back.params, bare.params))
    config.network.filters = 5
    other = build_embedder(config, (8, 8, 1)).init(jax.random.key(1))
    with pytest.raises(UserError, match=r"network in there .* does not match this config: .*block_0"):
        other.started_from(bare.inference_variables(), "there")
