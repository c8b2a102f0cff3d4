"""A method's steps, on data that lie on the device or are streamed to it batch by batch."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.config import Experiment
from fsljax.data.io.streaming import fits, read, stream
from fsljax.training import devices
from fsljax.training.devices import StepFunction
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


def placed(data: TrainingData, budget_gb: float) -> TrainingData:
    """Data with their index on the device, and their inputs too where these fit into so many 10⁹ bytes."""
    if isinstance(data.inputs, jax.Array) or fits(data.inputs, budget_gb):
        return jax.device_put(data._replace(inputs=np.asarray(data.inputs)))
    return data._replace(index=jax.device_put(data.index))


def on_device(method: Method) -> StepFunction:
    """A method's whole step, a pure function of its state and of data that lie on the device."""

    def step(state: TrainState, data: TrainingData) -> tuple[TrainState, Metrics]:
        batch = method.draw(state, data.index)
        return method.learn(state, batch, jnp.asarray(data.inputs)[batch.rows])

    return step


class Steps:
    """Runs a method's steps up to a goal; use as a context manager, which ends the reading of batches.

    Streamed or not, steps see the same batches in the same order.

    Args:
      method: whose steps they are.
      config: of the run.
      data: as `placed` left them.
      progress: shows streaming and compilation.
    """

    def __init__(self, method: Method, config: Experiment, data: TrainingData, progress: Progress):
        self._progress = progress
        self._warm = False
        self._advance: _InMemory | _Streamed
        if isinstance(data.inputs, jax.Array):
            self._advance = _InMemory(method, config, data)
        else:
            progress.say(
                f"the training data take {data.inputs.nbytes / 1e9:.3g} GB, more than "
                "config.data.device_budget_gb: they are streamed"
            )
            self._advance = _Streamed(method, config, data)

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
                self._progress.say("compiling the training step …")
            state, metrics, count = self._advance(state, step, goal - step)
            if not self._warm:
                jax.block_until_ready(metrics)
                release_freed_memory()
                self._progress.start_clock()
                self._warm = True
                interruption.polled = True  # before, there was nothing to save
            collected.append(metrics)
            if len(collected) >= _IN_FLIGHT:
                jax.block_until_ready(collected[-_IN_FLIGHT])
            step += count
        fetched = jax.device_get(collected)
        return state, {name: np.concatenate([part[name] for part in fetched]) for name in fetched[0]}


class _InMemory:
    """Several steps in one call, where the device likes that."""

    def __init__(self, method: Method, config: Experiment, data: TrainingData):
        self._data = data
        self._count = devices.steps_per_dispatch(config.train.steps_per_dispatch)
        step = on_device(method)
        self._compiled = {count: devices.compile_steps(step, count) for count in {1, self._count}}

    def __call__(self, state: TrainState, step: int, left: int) -> tuple[TrainState, Metrics, int]:
        count = self._count if left >= self._count else 1
        return *self._compiled[count](state, self._data), count

    def close(self) -> None:
        pass


class _Streamed:
    """Draws on the device, reads on the host, and learns on the device; reads ahead where draws allow it."""

    def __init__(self, method: Method, config: Experiment, data: TrainingData):
        assert not isinstance(data.inputs, jax.Array)
        self._method, self._config, self._inputs, self._index = method, config, data.inputs, data.index
        self._draw = jax.jit(method.draw)
        self._learn = jax.jit(self._one_step, donate_argnums=0)
        self._ahead: _Batches | None = None

    def __call__(self, state: TrainState, step: int, left: int) -> tuple[TrainState, Metrics, int]:
        if not self._method.prefetchable:
            batch = self._draw(state, self._index)
            inputs = read(self._inputs, np.asarray(batch.rows))
        else:
            if self._ahead is None:
                self._ahead = self._read_ahead(_key_alone(state), step)
            batch, inputs = next(self._ahead)
        return *self._learn(state, batch, inputs), 1

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()

    def _one_step(self, state: TrainState, batch: Batch, inputs: jax.Array) -> tuple[TrainState, Metrics]:
        state, metrics = self._method.learn(state, batch, inputs)
        return state, jax.tree.map(lambda value: value[None], metrics)

    def _read_ahead(self, state: TrainState, first: int) -> _Batches:
        """Batches and their inputs, from a step on."""
        options, total = self._config.data, self._config.train.steps
        count = _DRAWN_FOR_PROCESSES if options.workers else _DRAWN_AT_ONCE
        for start in range(first, total, count):
            steps = range(start, min(start + count, total))
            drawn = [self._draw(state.replace(step=np.int32(step)), self._index) for step in steps]
            rows = [np.asarray(batch.rows) for batch in drawn]
            reading = stream(self._inputs, rows, workers=options.workers, prefetch=options.prefetch)
            with contextlib.closing(reading):
                yield from zip(drawn, reading, strict=True)


def _key_alone(state: TrainState) -> TrainState:
    """All that prefetchable draws depend on, as a copy: a step takes over the state's own buffers."""
    nothing = dict.fromkeys(("params", "opt_state", "batch_stats", "ema_params", "method_state"))
    return state.replace(key=jnp.copy(state.key), **nothing)
