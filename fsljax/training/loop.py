"""The training loop, the same for every method."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from fsljax.config import Experiment
from fsljax.errors import DivergedError, UserError
from fsljax.networks import has_folded_norm, load_weights, pretrained
from fsljax.networks.variables import Variables
from fsljax.parallel.devices import chosen
from fsljax.storage.paths import given_path
from fsljax.training.checkpoints import Checkpoints
from fsljax.training.host_memory import release_freed_memory
from fsljax.training.logs import MetricsLog
from fsljax.training.method import Method
from fsljax.training.optimizer import learning_rate
from fsljax.training.progress import Progress
from fsljax.training.signals import Interruption, Stopped
from fsljax.training.state import TrainState, without_params
from fsljax.training.steps import Steps, check_batch, placed


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
        `config.network.weights` names, has no model, or another network.
      DivergedError: if the loss is no longer a finite number; earlier checkpoints stay.
      NotSavedError: if the last state cannot be written.
      Stopped: if a signal asked for it; the state is on disk.
    """
    devices = chosen(config.mesh.devices)
    state = jax.jit(method.init)(jax.random.key(config.seed))
    restored = checkpoints.restore_last(state)
    if restored is not None:
        state = restored
    elif config.network.init_from:
        source = given_path(config.network.init_from, "config.network.init_from")
        there = without_params(Checkpoints(source).restore_model().variables, source_params())
        state = state.started_from(there, str(source))
    elif config.network.weights:
        source = pretrained.located(config.network)
        loaded = load_weights(source, state.network_variables())
        _check_norm(config, loaded, source)
        state = state.started_from(loaded, str(source))
    step = int(state.step)
    total = config.train.steps
    if not total and restored is None:
        checkpoints.save(state, 0.0)
        checkpoints.check_saved(0)
        return
    if step >= total:
        print(f"the training is complete: {step} of {total} steps", file=sys.stderr)
        return
    with (
        Progress(total, step) as progress,
        MetricsLog(workdir, resume_step=step) as log,
        contextlib.ExitStack() as stack,
    ):
        if step:
            progress.say(f"going on from step {step} of {total}")
        data = method.training_data(state.inference_variables())
        on_devices = placed(data, config.data.device_budget_gb, devices)
        check_batch(method, state, on_devices.index, devices)
        run_steps = stack.enter_context(Steps(method, config, on_devices, progress, devices))
        state = devices.replicate(state)
        rate = learning_rate(config)
        while step < total:
            spans = [config.train.log_every, config.checkpoint.every]
            if method.refresh_every:
                spans.append(method.refresh_every)
            goal = min(*(_next_multiple(step, span) for span in spans), total)
            began = time.monotonic()
            if method.refresh_every and step % method.refresh_every == 0:
                state = devices.replicate(method.refresh(devices.local(state), data))
            state, metrics = run_steps(state, step, goal, interruption)
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
                here = devices.local(state)
                _validate_and_save(method, here, step, checkpoints, log, progress, figures)
            else:
                progress.update(step, figures)
            if interruption.requested and step < total:
                checkpoints.save(devices.local(state), None)
                checkpoints.check_saved(step)
                raise Stopped
        checkpoints.check_saved(total)
        interruption.polled = False


def _validate_and_save(
    method: Method,
    state: TrainState,
    step: int,
    checkpoints: Checkpoints,
    log: MetricsLog,
    progress: Progress,
    figures: dict[str, float],
) -> None:
    validation = method.validate(state.inference_variables())
    if validation:
        log.scalars(step, {f"validation/{name}": value for name, value in validation.items()})
    # Without a validation part the last state is the one to keep.
    checkpoints.save(state, next(iter(validation.values()), float(step)))
    log.flush()
    named = {f"validation {name}": value for name, value in validation.items()}
    release_freed_memory()
    progress.update(step, figures | named, important=True)


def _check_norm(config: Experiment, variables: Variables, source: Path) -> None:
    network = config.network
    if network.trainable != "head" and not network.frozen_statistics and has_folded_norm(variables):
        raise UserError(
            f"{source} has batch norm folded into its convolutions, which training by the statistics of "
            "batches would undo: set --config.network.frozen_statistics=True."
        )


def _check_finite(losses: np.ndarray, first: int, checkpoints: Checkpoints) -> None:
    bad = np.flatnonzero(~np.isfinite(losses))
    if len(bad):
        raise DivergedError(
            f"The loss is {losses[bad[0]]} at step {first + bad[0] + 1}: the run stops. "
            f"{checkpoints.describe_last()} Try a lower config.train.learning_rate."
        )


def _next_multiple(step: int, of: int) -> int:
    return (step // of + 1) * of
