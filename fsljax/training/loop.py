"""The training loop, the same for every method."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from fsljax.config import Experiment, flat, plain
from fsljax.errors import DivergedError, UserError
from fsljax.networks import has_folded_norm, load_weights, pretrained
from fsljax.networks.variables import Variables
from fsljax.parallel import processes
from fsljax.parallel.devices import UNASKED, chosen
from fsljax.reporting import trackers
from fsljax.storage.paths import given_path
from fsljax.training.checkpoints import Checkpoints
from fsljax.training.devices import collected, how_spread, spread, steps_per_dispatch
from fsljax.training.host_memory import release_freed_memory
from fsljax.training.logs import MetricsLog, validations
from fsljax.training.method import Method
from fsljax.training.optimizer import learning_rate
from fsljax.training.progress import Patience, Progress
from fsljax.training.signals import Interruption, Stopped
from fsljax.training.state import TrainState, without_params
from fsljax.training.state_items import state_of_first
from fsljax.training.steps import Steps, placed, sharing


def train(
    method: Method,
    config: Experiment,
    workdir: Path,
    checkpoints: Checkpoints,
    interruption: Interruption,
    source_params: Callable[[], Sequence[str]] = tuple,
) -> None:
    """Trains from the newest checkpoint in the workdir, or from the start, to the config's last step.

    Args:
      method, config, workdir: of the run.
      checkpoints: of the workdir.
      interruption: asks for the end.
      source_params: asked where training begins: names of the parameters in the run that
        `config.network.init_from` names that are its method's, and not its network's.

    Raises:
      UserError: if the run that `config.network.init_from` names, or the file that
        `config.network.weights` names, has no model, or another network; or if the devices cannot share a
        step as asked.
      DivergedError: if the loss is no longer a finite number; earlier checkpoints stay.
      NotSavedError: if the last state cannot be written.
      Stopped: if a signal asked for it; the state is on disk.
    """
    devices = chosen(config.mesh.devices)
    state = jax.jit(method.init)(jax.random.key(config.seed))
    if config.mesh.divide_classes and not state.divided:
        raise UserError(
            f"config.mesh.divide_classes is True, but {config.method} keeps nothing per class: set it to "
            "False."
        )
    writes, is_new = processes.is_first(), False
    with processes.together():
        if writes:
            state, is_new = _begun(state, config, checkpoints, source_params)
    state, is_new = state_of_first(state), processes.from_first(is_new)
    step = int(state.step)
    total = config.train.steps
    if not total and is_new:
        _save(checkpoints, state, 0.0, at_once=True)
        return
    patience = Patience(config.train.patience)
    if patience.limit:
        for figure in processes.from_first(validations(workdir, step) if writes else None):
            patience.note(figure)
    if step >= total or patience.is_over:
        if writes:
            early = f", stopped early: {patience}" if step < total else ""
            print(f"the training is complete: {step} of {total} steps{early}", file=sys.stderr)
        return
    if patience.limit and is_new and not method.validate(state.inference_variables()):
        raise UserError(
            f"config.train.patience is {patience.limit}, but {config.method} does not validate: set it to 0."
        )
    stop = AgreedStop(interruption, steps_per_dispatch(config.train.steps_per_dispatch))
    with (
        Progress(total, step, shown=writes) as progress,
        MetricsLog(
            workdir,
            resume_step=step,
            writes=writes,
            tracker=_tracker(config, workdir, step) if writes else None,
        ) as log,
        contextlib.ExitStack() as stack,
    ):
        if step:
            progress.say(f"continuing from step {step} of {total}")
        data = method.training_data(state.inference_variables())
        available, asked = len(devices), config.mesh.devices != UNASKED
        devices = sharing(method, state, data.index, devices, asked=asked)
        if len(devices) < available:
            progress.say(
                f"{len(devices)} of {available} devices share a step: its batch cannot be divided further"
            )
        on_devices = placed(data, config.data.device_budget_gb, devices)
        run_steps = stack.enter_context(
            Steps(method, config, on_devices, progress, devices, how_spread(state))
        )
        state = spread(state, devices)
        rate = learning_rate(config)
        while step < total and not patience.is_over:
            spans = [config.train.log_every, config.checkpoint.every]
            if method.refresh_every:
                spans.append(method.refresh_every)
            goal = min(*(_next_multiple(step, span) for span in spans), total)
            began = time.monotonic()
            if method.refresh_every and step % method.refresh_every == 0:
                state = spread(method.refresh(collected(state, devices), data), devices)
            state, metrics = stop.run(run_steps, state, step, goal)
            first, step = step, step + len(metrics["loss"])
            _check_finite(metrics["loss"], first, checkpoints)
            figures = {name: float(np.mean(values)) for name, values in metrics.items()}
            speed = (step - first) / (time.monotonic() - began)
            log.scalars(
                step,
                {f"train/{name}": value for name, value in figures.items()}
                | {"learning_rate": float(rate(step)), "steps_per_second": speed},
            )
            if step % config.checkpoint.every == 0 or step == total:
                here = collected(state, devices)
                _validate_and_save(method, here, step, checkpoints, log, progress, figures, patience)
            else:
                progress.update(step, figures)
            if stop.requested and step < total and not patience.is_over:
                _save(checkpoints, collected(state, devices), None, at_once=True)
                raise Stopped
        if step < total:
            progress.say(f"stopped early at step {step} of {total}: {patience}")
        if writes:
            checkpoints.check_saved(step)
        interruption.polled = False


class AgreedStop:
    """Runs steps so that all processes stop after the same one, though one alone may be asked to.

    Attributes:
      requested: whether to stop.

    Args:
      interruption: of this process.
      dispatched: steps that reach the device in one call.
    """

    def __init__(self, interruption: Interruption, dispatched: int) -> None:
        self._interruption, self._dispatched = interruption, dispatched
        self._steps = 1
        self._agreed = False

    @property
    def requested(self) -> bool:
        return self._agreed or (processes.count() == 1 and self._interruption.requested)

    def run(
        self, run_steps: Steps, state: TrainState, step: int, goal: int
    ) -> tuple[TrainState, dict[str, np.ndarray]]:
        """The state after step `goal`, and the metrics of all steps; of fewer if asked to stop."""
        if processes.count() == 1:
            return run_steps(state, step, goal, self._interruption)
        collected: list[dict[str, np.ndarray]] = []
        while step < goal and not (self._agreed and collected):
            began, until = time.monotonic(), min(step + self._steps, goal)
            never = Interruption()
            state, metrics = run_steps(state, step, until, never)
            self._interruption.polled |= never.polled
            collected.append(metrics)
            wanted = self._steps_of_a_second((until - step) / (time.monotonic() - began))
            self._agreed, self._steps = processes.agreed(self._interruption.requested, wanted)
            step = until
        return state, {name: np.concatenate([part[name] for part in collected]) for name in collected[0]}

    def _steps_of_a_second(self, speed: float) -> int:
        steps = int(min(max(speed, 1), 1e6))
        return steps // self._dispatched * self._dispatched or steps


def _begun(
    state: TrainState,
    config: Experiment,
    checkpoints: Checkpoints,
    source_params: Callable[[], Sequence[str]],
) -> tuple[TrainState, bool]:
    """The newest state in the workdir, or the first one that this is, and whether it is new."""
    restored = checkpoints.restore_last(state)
    if restored is not None:
        return restored, False
    if config.network.init_from:
        source = given_path(config.network.init_from, "config.network.init_from")
        there = without_params(Checkpoints(source).restore_model().variables, source_params())
        state = state.started_from(there, str(source))
    elif config.network.weights:
        source = pretrained.located(config.network)
        loaded = load_weights(source, state.network_variables())
        _check_norm(config, loaded, source)
        state = state.started_from(loaded, str(source))
    return state, True


def check_source(config: Experiment) -> None:
    """Raises a UserError if what the network begins with is missing, before data are loaded."""
    network = config.network
    if network.weights and not network.weights_digest:  # else they were found
        pretrained.located(network)
    if network.init_from:
        Checkpoints(given_path(network.init_from, "config.network.init_from")).restore_model()
    if network.trainable != "all" and not (network.weights or network.init_from):
        raise UserError(
            f"config.network.trainable is {network.trainable!r}, but no weights are given for the rest of "
            "the network: give --config.network.weights=FILE or --config.network.init_from=WORKDIR."
        )


def _tracker(config: Experiment, workdir: Path, step: int) -> trackers.Tracker | None:
    log = config.log
    return trackers.start(log.to, log.project, config.name, workdir, flat(plain(config)), new=not step)


def _save(
    checkpoints: Checkpoints, state: TrainState, selection: float | None, *, at_once: bool = False
) -> None:
    """Writes a checkpoint, in the first process; `at_once`: it is there when this returns."""
    if processes.is_first():
        checkpoints.save(state, selection)
        if at_once:
            checkpoints.check_saved(int(state.step))


def _validate_and_save(
    method: Method,
    state: TrainState,
    step: int,
    checkpoints: Checkpoints,
    log: MetricsLog,
    progress: Progress,
    figures: dict[str, float],
    patience: Patience,
) -> None:
    validation = method.validate(state.inference_variables())
    if validation:
        patience.note(next(iter(validation.values())))
        waited = {"validations_without_a_new_best": float(patience.since)} if patience.limit else {}
        log.scalars(step, {f"validation/{name}": value for name, value in validation.items()} | waited)
    # Without a validation part the last state is the one to keep.
    _save(checkpoints, state, next(iter(validation.values()), float(step)))
    log.flush()
    named = {f"validation {name}": value for name, value in validation.items()}
    release_freed_memory()
    progress.update(step, figures | named, important=True)


def _check_norm(config: Experiment, variables: Variables, source: Path) -> None:
    network = config.network
    if network.trainable != "head" and not network.frozen_statistics and has_folded_norm(variables):
        raise UserError(
            f"{source} has batch norm folded into its convolutions, which training with batch statistics "
            "would undo: set --config.network.frozen_statistics=True."
        )


def _check_finite(losses: np.ndarray, first: int, checkpoints: Checkpoints) -> None:
    bad = np.flatnonzero(~np.isfinite(losses))
    if len(bad):
        last = f"{checkpoints.describe_last()} " if processes.is_first() else ""
        raise DivergedError(
            f"The loss is {losses[bad[0]]} at step {first + bad[0] + 1}: the run stops. "
            f"{last}Try a lower config.train.learning_rate."
        )


def _next_multiple(step: int, of: int) -> int:
    return (step // of + 1) * of
