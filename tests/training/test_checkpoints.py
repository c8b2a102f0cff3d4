"""Checkpoints: what is kept, what is restored, and what damage does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from fsljax.errors import DivergedError, UserError
from fsljax.training.checkpoints import Checkpoints, Model
from fsljax.training.state import TrainState


def make_state(step: int, *, averaging: bool = False) -> TrainState:
    params = {"dense": {"kernel": jnp.arange(12.0).reshape(3, 4) + step, "bias": jnp.full(4, step / 3)}}
    state = TrainState.create(
        apply_fn=None,
        params=params,
        tx=optax.adam(1e-3),
        batch_stats={"mean": jnp.ones(3) * step},
        ema_params=jax.tree.map(lambda leaf: leaf / 2, params) if averaging else None,
        key=jax.random.key(step),
    )
    return state.replace(step=jnp.asarray(step, jnp.int32))


def save(folder: Path, selections: dict[int, float | None], *, keep_last: int = 2, averaging: bool = False):
    checkpoints = Checkpoints(folder, keep_last=keep_last)
    for step, selection in selections.items():
        checkpoints.save(make_state(step, averaging=averaging), selection)
    checkpoints.close()


def assert_same(state: TrainState, expected: TrainState) -> None:
    assert jax.random.key_impl(state.key) == jax.random.key_impl(expected.key)
    for ours, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        if jnp.issubdtype(ours.dtype, jax.dtypes.prng_key):
            ours, wanted = jax.random.key_data(ours), jax.random.key_data(wanted)
        assert ours.dtype == wanted.dtype
        np.testing.assert_array_equal(ours, wanted)


def truncate(folder: Path) -> None:
    """Cuts the largest file of a checkpoint in half."""
    largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


@pytest.mark.parametrize("averaging", [False, True])
def test_the_last_state_comes_back_bit_for_bit(tmp_path: Path, averaging: bool):
    save(tmp_path, {1: 0.5, 2: 0.25}, averaging=averaging)
    restored = Checkpoints(tmp_path).restore_last(make_state(9, averaging=averaging))
    assert_same(restored, make_state(2, averaging=averaging))


def test_the_last_few_and_the_best_are_kept(tmp_path: Path):
    save(tmp_path, {1: 0.5, 2: 0.9, 3: 0.6, 4: 0.7, 5: None})
    checkpoints = Checkpoints(tmp_path)
    assert set(checkpoints.selections()) == {2, 4, 5}
    assert checkpoints.best_step() == 2
    model = checkpoints.restore_best(make_state(0))
    assert model.step == 2
    chex.assert_trees_all_equal(
        model.variables, jax.tree.map(np.asarray, make_state(2).inference_variables())
    )


def test_states_are_kept_without_a_preemption_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs of several processes start without it, and Orbax before 0.12 then fails."""

    def not_initialised(*_: object) -> bool:
        raise RuntimeError("Preemption sync manager has not been initialized.")

    monkeypatch.setattr(ocp.CheckpointManager, "reached_preemption", not_initialised)
    save(tmp_path, {1: 0.5, 2: 0.25})
    assert_same(Checkpoints(tmp_path).restore_last(make_state(9)), make_state(2))


def test_of_equal_figures_the_later_is_best(tmp_path: Path):
    save(tmp_path, {1: 0.5, 2: 0.5})
    assert Checkpoints(tmp_path).best_step() == 2


def test_evaluation_takes_averaged_parameters(tmp_path: Path):
    save(tmp_path, {4: 0.5}, averaging=True)
    model = Checkpoints(tmp_path).restore_best(make_state(0, averaging=True))
    np.testing.assert_array_equal(model.variables["params"]["dense"]["bias"], np.float32(4 / 3) / 2)


def test_a_truncated_checkpoint_is_skipped_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    save(tmp_path, {1: 0.5, 2: 0.9})
    truncate(tmp_path / "checkpoints/2")
    assert Checkpoints(tmp_path).restore_best(make_state(0)).step == 1
    assert str(tmp_path / "checkpoints/2") in caplog.text
    caplog.clear()
    checkpoints = Checkpoints(tmp_path)
    assert_same(checkpoints.restore_last(make_state(0)), make_state(1))
    assert str(tmp_path / "checkpoints/2") in caplog.text
    # The run goes on and reaches the same step again; the damaged one is put aside, not lost.
    checkpoints.save(make_state(2), 0.9)
    checkpoints.close()
    assert_same(Checkpoints(tmp_path).restore_last(make_state(0)), make_state(2))
    assert (tmp_path / "damaged_checkpoints/2").is_dir()


@pytest.mark.parametrize("pattern", ["model/**/*", "training/**/*", "about/*", "*METADATA*", "**/manifest*"])
def test_any_damaged_file_is_noticed_or_harmless(tmp_path: Path, pattern: str):
    save(tmp_path, {1: 0.5, 2: 0.9})
    files = [p for p in (tmp_path / "checkpoints/2").glob(pattern) if p.is_file()]
    assert files
    for path in files:
        path.write_bytes(b"")
    restored = Checkpoints(tmp_path).restore_last(make_state(0))
    assert_same(restored, make_state(int(restored.step)))


def test_changed_bytes_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save(tmp_path, {1: 0.5})
    checkpoints = Checkpoints(tmp_path)
    about = checkpoints._about(1)
    about["digests"]["training"] = "0" * 64
    monkeypatch.setattr(checkpoints, "_about", lambda step: about)
    assert checkpoints.restore_last(make_state(0)) is None


def test_a_half_written_checkpoint_is_skipped_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    save(tmp_path, {1: 0.5})
    half = tmp_path / "checkpoints/2.orbax-checkpoint-tmp"
    (half / "model").mkdir(parents=True)
    assert int(Checkpoints(tmp_path).restore_last(make_state(0)).step) == 1
    assert half.name in caplog.text


def test_without_any_checkpoint(tmp_path: Path):
    assert Checkpoints(tmp_path).restore_last(make_state(0)) is None
    with pytest.raises(UserError, match="train first"):
        Checkpoints(tmp_path).restore_best(make_state(0))


def test_parameters_that_are_not_finite_are_never_written(tmp_path: Path):
    save(tmp_path, {1: 0.5})
    checkpoints = Checkpoints(tmp_path)
    bad = make_state(2)
    with pytest.raises(DivergedError, match=r"step 2.*checkpoints/1"):
        checkpoints.save(bad.replace(params=jax.tree.map(lambda leaf: leaf * jnp.nan, bad.params)), 0.9)
    assert set(Checkpoints(tmp_path).selections()) == {1}


def test_a_full_disk_costs_one_checkpoint_and_not_the_run(tmp_path: Path, caplog, monkeypatch):
    save(tmp_path, {1: 0.5})
    checkpoints = Checkpoints(tmp_path)
    with monkeypatch.context() as patch:

        def fail(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(type(checkpoints._writer()), "save", fail)
        checkpoints.save(make_state(2), 0.9)
        checkpoints.wait()
    assert "No space left on device" in caplog.text
    checkpoints.save(make_state(3), 0.6)
    checkpoints.close()
    assert_same(Checkpoints(tmp_path).restore_last(make_state(0)), make_state(3))


def test_a_shipped_model_has_no_optimiser_state(tmp_path: Path):
    save(tmp_path / "run", {3: 0.5})
    model = Checkpoints(tmp_path / "run").restore_best(make_state(0))
    Checkpoints(tmp_path / "shipped").write_model(model, 0.5)
    assert not (tmp_path / "shipped/checkpoints/3/training").exists()
    again = Checkpoints(tmp_path / "shipped").restore_best(make_state(0))
    chex.assert_trees_all_equal(again, model)


def test_damage_prints_no_stack_trace(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    save(tmp_path, {1: 0.5, 2: 0.9})
    for file in (tmp_path / "checkpoints/2").glob("*/d/*"):
        file.write_bytes(bytes(len(file.read_bytes())))
    assert Checkpoints(tmp_path).restore_best(make_state(0)).step == 1
    printed = capfd.readouterr()
    assert "Traceback" not in printed.err + printed.out


def test_a_changed_figure_of_a_checkpoint_is_told_and_chooses_none(tmp_path: Path, caplog):
    save(tmp_path, {1: 0.5, 2: 0.9})
    path = tmp_path / "checkpoints/2/about/metadata"
    path.write_text(path.read_text().replace("0.9", "0.3"))
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.best_step() == 1
    assert "checkpoints/2 is damaged and skipped: was changed after it was written" in caplog.text
    assert_same(checkpoints.restore_last(make_state(0)), make_state(1))
    assert (tmp_path / "damaged_checkpoints/2").is_dir()
    checkpoints.save(make_state(2), 0.9)
    checkpoints.close()
    assert Checkpoints(tmp_path).best_step() == 2
    assert caplog.text.count("damaged and skipped") == 1


@contextmanager
def disk_of(kilobytes: int, folder: Path) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk takes the right to mount one")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("kilobytes", [4, 16, 32, 48])
def test_wherever_a_disk_fills_up_it_is_told_in_a_sentence(tmp_path: Path, caplog, capfd, kilobytes: int):
    with disk_of(kilobytes, tmp_path / "small") as folder:
        for number in (1, 2):
            run = Checkpoints(folder / "run")
            run.save(make_state(number), 0.5)
            run.wait()
            assert number not in run.selections()
            run.close()
            with pytest.raises(OSError, match="No space left on device"):
                Checkpoints(folder / "model").write_model(Model(1, make_state(1).inference_variables()), None)
    assert "Traceback" not in capfd.readouterr().err
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


def test_the_next_checkpoint_may_find_room(tmp_path: Path, caplog, capfd):
    with disk_of(400, tmp_path / "small") as small_disk:
        large_and_small(small_disk)
    assert "The checkpoint of step 1 could not be written (No space left on device)" in caplog.text
    assert "Traceback" not in capfd.readouterr().err and len(caplog.records) == 1


def large_and_small(small_disk: Path) -> None:
    checkpoints = Checkpoints(small_disk)
    state = make_state(1)
    kernel = jax.random.normal(jax.random.key(0), (400, 400))
    large = state.replace(params=state.params | {"large": {"kernel": kernel}})
    checkpoints.save(large, 0.5)
    checkpoints.close()
    with pytest.raises(OSError, match="No space left on device"):
        Checkpoints(small_disk).write_model(Model(1, large.inference_variables()), None)
    checkpoints.save(state, 0.5)
    checkpoints.close()
    assert_same(Checkpoints(small_disk).restore_last(make_state(0)), state)
