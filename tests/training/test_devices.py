"""How steps reach the device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fsljax.training import devices
from fsljax.training.state import TrainState


def train_step(state: TrainState, data: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
    """A line fitted to five random points."""
    rows = jax.random.randint(state.step_key(), (5,), 0, len(data))

    def loss_of(params: dict[str, jax.Array]) -> jax.Array:
        x, y = data[rows].T
        return jnp.mean((params["slope"] * x + params["level"] - y) ** 2)

    loss, gradients = jax.value_and_grad(loss_of)(state.params)
    batch_stats = {"seen": state.batch_stats["seen"] + 5}
    return state.updated(gradients, batch_stats, ema=0.5), {"loss": loss, "first": rows[0]}


def make_state() -> TrainState:
    params = {"slope": jnp.zeros(()), "level": jnp.zeros(())}
    state = TrainState.create(
        apply_fn=None,
        params=params,
        tx=optax.adam(0.1),
        batch_stats={"seen": jnp.zeros((), jnp.int32)},
        ema_params=jax.tree.map(jnp.copy, params),
        key=jax.random.key(0),
    )
    return state.replace(step=jnp.zeros((), jnp.int32))


@pytest.fixture(scope="module")
def points() -> jax.Array:
    x = np.linspace(-1, 1, 50)
    return jnp.asarray(np.stack([x, 3 * x + 1], axis=1), jnp.float32)


def arrays(state: TrainState) -> list[np.ndarray]:
    tree = (state.step, state.params, state.ema_params, state.batch_stats, state.opt_state)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_several_steps_in_one_call_are_the_same_steps_one_by_one(points: jax.Array):
    one, six = devices.compile_steps(train_step, 1), devices.compile_steps(train_step, 6)
    single, singles = make_state(), []
    for _ in range(6):
        single, metrics = one(single, points)
        singles.append(metrics)
    together, metrics = six(make_state(), points)
    assert metrics["loss"].shape == (6,)
    assert singles[0]["loss"].shape == (1,)
    for name in ("loss", "first"):
        np.testing.assert_allclose(metrics[name], [part[name][0] for part in singles], rtol=1e-5)
    for ours, wanted in zip(arrays(together), arrays(single), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-5)
    assert int(together.step) == 6
    assert len(set(metrics["first"].tolist())) > 1  # each step drew points of its own


@pytest.mark.parametrize("count", [1, 3])
def test_a_state_gives_its_buffers_to_the_next_and_the_data_stay(points: jax.Array, count: int):
    state = make_state()
    devices.compile_steps(train_step, count)(state, points)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.opt_state)))
    assert not points.is_deleted()


def test_a_cpu_is_given_one_step_at_a_time_and_others_what_is_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert devices.steps_per_dispatch(50) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert devices.steps_per_dispatch(50) == 50


@pytest.fixture
def cache_setting() -> Iterator[None]:
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_compiled_programs_are_kept_in_the_users_cache(cache_setting: None, cache_home: Path):
    jax.config.update("jax_compilation_cache_dir", None)
    devices.use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir == str(cache_home / "fsljax" / "xla")


def test_a_compilation_cache_of_the_users_own_stays(cache_setting: None, tmp_path: Path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    devices.use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path)


def test_without_a_cache_folder_programs_are_compiled_each_time(
    cache_setting: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    jax.config.update("jax_compilation_cache_dir", None)
    devices.use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir is None
    assert "Caching is disabled" in caplog.text


def test_compiled_programs_that_others_could_have_put_there_are_not_run(
    cache_setting: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "fsljax" / "xla").mkdir(parents=True)
    (tmp_path / "fsljax" / "xla").chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    devices.use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir is None
    assert "other users can write" in caplog.text
