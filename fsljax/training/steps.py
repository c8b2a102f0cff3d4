"""A method's steps, on data that lie on the device or are streamed to it batch by batch."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator

import jax
import jax.numpy as jnp
import numpy as np
from chex import ArrayTree

from fsljax.config import Experiment
from fsljax.data.io.streaming import fits, read, stream
from fsljax.errors import UserError
from fsljax.parallel import shares
from fsljax.parallel.devices import DIVIDED, ONE, WHOLE, Devices
from fsljax.training.devices import StepFunction, compile_steps, steps_per_dispatch
from fsljax.training.host_memory import release_freed_memory
from fsljax.training.method import Batch, Method, TrainingData
from fsljax.training.progress import Progress
from fsljax.training.signals import Interruption
from fsljax.training.state import TrainState

Metrics = dict[str, jax.Array]
_Batches = Generator[tuple[Batch, np.ndarray], None, None]

# Batches drawn before the first of them is read; then reading starts again: where it is done by processes,
# by starting these.
_DRAWN_AT_ONCE = 64
_DRAWN_FOR_PROCESSES = 1024
# Calls that are under way at once: each holds what its steps compute with, over a gigabyte for a detector.
_IN_FLIGHT = 2


def placed(data: TrainingData, budget_gb: float, devices: Devices = ONE) -> TrainingData:
    """Data with their index on the devices, and their inputs too where these fit.

    Args:
      data: as a method gives them.
      budget_gb: 10⁹ bytes of a device that inputs may take. Where they take more, each device gets a part;
        where that is more, too, they stay on the host.
      devices: that share the steps.
    """
    if isinstance(data.inputs, jax.Array) or fits(data.inputs, budget_gb):
        whole = data._replace(inputs=np.asarray(data.inputs))
        return devices.replicate(jax.device_put(whole))
    index = devices.replicate(jax.device_put(data.index))
    size = -(-len(data.inputs) // len(devices))
    if len(devices) > 1 and fits(data.inputs, budget_gb * len(data.inputs) / size):
        rows = devices.share(size * len(devices)) % len(data.inputs)  # the last part is filled up
        inputs = devices.put_rows(read(data.inputs, rows))
        return TrainingData(inputs, index)
    return TrainingData(data.inputs, index)


def on_device(method: Method, *, divided: bool = False) -> StepFunction:
    """A method's whole step, a pure function of its state and of data that lie on the device.

    Args:
      method: whose step it is.
      divided: whether the device has only its part of the inputs.
    """

    def step(state: TrainState, data: TrainingData) -> tuple[TrainState, Metrics]:
        batch = method.draw(state, data.index)
        inputs = jnp.asarray(data.inputs)
        if shares.count() == 1:
            return method.learn(state, batch, inputs[batch.rows])
        if not method.prefetchable:
            batch = shares.of_first(batch)
        rows, episodes = batch.rows.reshape(-1), episodes_of(method)
        if divided:
            own = shares.rows_of_divided(inputs, rows, episodes=episodes)
        else:
            own = inputs[shares.share(rows, episodes=episodes)]
        state, metrics = method.learn(state, batch, own)
        return state, shares.mean(metrics)

    return step


def episodes_of(method: Method) -> int:
    """Parts of a batch that devices take whole; 1 of a method that was written for one device."""
    return getattr(method, "episodes_per_step", 1)


def sharing(
    method: Method, state: TrainState, index: ArrayTree, devices: Devices, *, asked: bool = True
) -> Devices:
    """The devices that share a step: all; or, where no number was asked for, as many as can.

    Raises:
      UserError: if the devices cannot share a batch evenly, or the method not at all.
    """
    if len(devices) == 1:
        return devices
    rows, episodes = jax.eval_shape(method.draw, state, index).rows, episodes_of(method)
    size = math.prod(rows.shape) // episodes
    for some in [devices] if asked else devices.fewer():
        if len(some) == 1 or (hasattr(method, "episodes_per_step") and not size % some.along(episodes)):
            return some
    if not hasattr(method, "episodes_per_step"):
        raise UserError(
            f"The method {type(method).__name__} does not define how {len(devices)} devices share a step: "
            "give it `episodes_per_step` (docs/how_to/extending.md), or use one device "
            "(--config.mesh.devices=1)."
        )
    if episodes > 1:
        has, along = f"{episodes} episodes of {size} images", devices.along(episodes)
        wanted = f"episodes a multiple of {len(devices)}, or that of an episode's images one of {along}"
    else:
        has, wanted = f"{size} images", f"images a multiple of {len(devices)}"
    raise UserError(
        f"A step's batch has {has}, which {len(devices)} devices cannot share equally: make the number of "
        f"{wanted}, or use another number of devices (--config.mesh.devices=N)."
    )


class Steps:
    """Runs a method's steps up to a goal; use as a context manager, which ends the reading of batches.

    Streamed or not, steps see the same batches in the same order.

    Args:
      method: whose steps they are.
      config: of the run.
      data: as `placed` left them.
      progress: shows streaming and compilation.
      devices: that share the steps.
      state: how it lies on them; see `fsljax.training.devices.how_spread`.
    """

    def __init__(
        self,
        method: Method,
        config: Experiment,
        data: TrainingData,
        progress: Progress,
        devices: Devices = ONE,
        state: ArrayTree = WHOLE,
    ):
        self._progress = progress
        self._warm = False
        self._advance: _InMemory | _Streamed
        if isinstance(data.inputs, jax.Array):
            self._advance = _InMemory(method, config, data, devices, state)
        else:
            progress.say(
                f"the training data take {data.inputs.nbytes / 1e9:.3g} GB, more than "
                "config.data.device_budget_gb: they are streamed"
            )
            self._advance = _Streamed(method, config, data, devices, state)

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *_: object) -> None:
        self._advance.close()

    def __call__(
        self, state: TrainState, step: int, goal: int, interruption: Interruption
    ) -> tuple[TrainState, dict[str, np.ndarray]]:
        """The state after step `goal`, and the metrics `[steps]` of all steps; of fewer if asked to stop."""
        collected: list[Metrics] = []
        while step < goal and not (interruption.requested and collected):
            if not self._warm:
                self._progress.compiling()
            state, metrics, count = self._advance(state, step, goal - step)
            if not self._warm:
                jax.block_until_ready(metrics)
                release_freed_memory()
                first = {name: float(np.mean(value)) for name, value in jax.device_get(metrics).items()}
                self._progress.compiled(step + count, first)
                self._warm = True
                interruption.polled = True  # before, there was nothing to save
            collected.append(metrics)
            if len(collected) >= _IN_FLIGHT:
                jax.block_until_ready(collected[-_IN_FLIGHT])
                self._progress.moved(step)
            step += count
        fetched = jax.device_get(collected)
        return state, {name: np.concatenate([part[name] for part in fetched]) for name in fetched[0]}


class _InMemory:
    """Several steps in one call, where the device likes that."""

    def __init__(
        self, method: Method, config: Experiment, data: TrainingData, devices: Devices, state: ArrayTree
    ):
        assert isinstance(data.inputs, jax.Array)
        self._data = data
        self._count = steps_per_dispatch(config.train.steps_per_dispatch)
        divided = not data.inputs.is_fully_replicated
        step = on_device(method, divided=divided)
        lies = TrainingData(DIVIDED, WHOLE) if divided else WHOLE  # type: ignore[arg-type]
        episodes = episodes_of(method)
        self._compiled = {
            count: compile_steps(step, count, devices, episodes=episodes, state=state, data=lies)
            for count in {1, self._count}
        }

    def __call__(self, state: TrainState, step: int, left: int) -> tuple[TrainState, Metrics, int]:
        count = self._count if left >= self._count else 1
        return *self._compiled[count](state, self._data), count

    def close(self) -> None:
        pass


class _Streamed:
    """Draws on the device, reads on the host, and learns on the device; reads ahead where draws allow it."""

    def __init__(
        self, method: Method, config: Experiment, data: TrainingData, devices: Devices, state: ArrayTree
    ):
        assert not isinstance(data.inputs, jax.Array)
        self._method, self._config, self._inputs, self._index = method, config, data.inputs, data.index
        self._devices = devices
        self._draw = jax.jit(method.draw)
        lies = (WHOLE, DIVIDED)
        self._learn = compile_steps(
            self._one_step, 1, devices, episodes=episodes_of(method), state=state, data=lies
        )
        self._ahead: _Batches | None = None

    def __call__(self, state: TrainState, step: int, left: int) -> tuple[TrainState, Metrics, int]:
        if not self._method.prefetchable:
            batch = self._draw(state, self._index)
            inputs = read(self._inputs, self._rows(batch))
        else:
            if self._ahead is None:
                self._ahead = self._read_ahead(_key_alone(state), step)
            batch, inputs = next(self._ahead)
        return *self._learn(state, (batch, self._devices.put_rows(inputs))), 1

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()

    def _rows(self, batch: Batch) -> np.ndarray:
        """The rows of the inputs that this process reads."""
        rows = np.asarray(batch.rows)
        if len(self._devices) == 1:
            return rows
        return rows.reshape(-1)[self._devices.share(rows.size, episodes_of(self._method))]

    def _one_step(self, state: TrainState, data: tuple[Batch, jax.Array]) -> tuple[TrainState, Metrics]:
        state, metrics = self._method.learn(state, *data)
        return state, shares.mean(metrics)

    def _read_ahead(self, state: TrainState, first: int) -> _Batches:
        """Batches and their inputs, from a step on."""
        options, total = self._config.data, self._config.train.steps
        count = _DRAWN_FOR_PROCESSES if options.workers else _DRAWN_AT_ONCE
        for start in range(first, total, count):
            steps = range(start, min(start + count, total))
            drawn = [self._draw(state.replace(step=np.int32(step)), self._index) for step in steps]
            rows = [self._rows(batch) for batch in drawn]
            reading = stream(self._inputs, rows, workers=options.workers, prefetch=options.prefetch)
            with contextlib.closing(reading):
                yield from zip(drawn, reading, strict=True)


def _key_alone(state: TrainState) -> TrainState:
    """All that prefetchable draws depend on, as a copy: a step takes over the state's own buffers."""
    nothing = dict.fromkeys(("params", "opt_state", "batch_stats", "ema_params", "method_state"))
    return state.replace(key=jnp.copy(state.key), **nothing)
