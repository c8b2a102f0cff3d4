"""The state of a run: all that is needed to go on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training import train_state
from ml_collections import ConfigDict

from fsljax import networks
from fsljax.errors import UserError

# Parameters that a method has beside those of its network.
_BESIDE_THE_NETWORK = ("classifier", "representatives", "sigma")


class TrainState(train_state.TrainState):
    """Flax's TrainState with what these methods need besides parameters and optimiser.

    Attributes:
      batch_stats: running averages of batch norm.
      averaged: exponential moving average of the parameters; None without averaging.
      key: base of the run's random numbers; those of a step come from `fold_in(key, step)`.
      method_state: what a method keeps besides, such as Magnet's clusters; None: nothing.
    """

    batch_stats: Any
    averaged: Any
    key: jax.Array
    method_state: Any = None

    def step_key(self) -> jax.Array:
        """The random key of this step alone."""
        return jax.random.fold_in(self.key, self.step)

    def inference_variables(self) -> dict[str, Any]:
        """Parameters (averaged, where averaging is on) and batch statistics, for evaluation."""
        params = self.params if self.averaged is None else self.averaged
        return {"params": params, "batch_stats": self.batch_stats}

    def started_from(self, variables: dict[str, Any], source: str) -> TrainState:
        """This first state with the parameters and batch statistics of another run.

        Args:
          variables: of that run's model.
          source: where they are from, for the error.

        Raises:
          UserError: if they are of another network.
        """
        here = network_variables({"params": self.params, "batch_stats": self.batch_stats})
        there = network_variables(variables)
        if _shapes(here) != _shapes(there):
            # With another head, or none, there or here: the backbone is what can be taken.
            ours, theirs = _shapes(_backbone(here)), _shapes(_backbone(there))
            if ours != theirs:
                differing = sorted(set(ours.items()) ^ set(theirs.items()))[0][0]
                raise UserError(
                    f"The network in {source} (config.network.init_from) is not this config's: "
                    f"{differing} is {theirs.get(differing, 'not there')} there and "
                    f"{ours.get(differing, 'not there')} here."
                )
            taken = _backbone(there)
            there = {
                name: {**tree, "backbone": taken[name]} if "backbone" in tree else taken[name]
                for name, tree in here.items()
            }
        params = {**self.params, **jax.tree.map(jnp.array, there["params"])}
        return self.replace(
            params=params,
            batch_stats=jax.tree.map(jnp.array, there["batch_stats"]),
            averaged=None if self.averaged is None else jax.tree.map(jnp.copy, params),
        )

    def with_parameter(self, name: str, value: jax.Array) -> TrainState:
        """This state with the parameter of that name put anew; what the optimiser remembers is forgotten."""

        def forgotten(path: tuple[Any, ...], held: jax.Array) -> jax.Array:
            of_it = any(getattr(key, "key", None) == name for key in path)
            return jnp.zeros_like(held) if of_it else held

        return self.replace(
            params={**self.params, name: value},
            averaged=None if self.averaged is None else {**self.averaged, name: value},
            opt_state=jax.tree_util.tree_map_with_path(forgotten, self.opt_state),
        )

    def updated(self, gradients: Any, batch_stats: Any, *, ema: float) -> TrainState:
        """The state after one optimiser step."""
        state = self.apply_gradients(grads=gradients, batch_stats=batch_stats)
        if state.averaged is None:
            return state
        moved = optax.incremental_update(state.params, state.averaged, 1 - ema)
        # The mean of equal numbers is that number: rounding must not move what is not trained.
        averaged = jax.tree.map(
            lambda new, old, mean: jnp.where(new == old, old, mean), state.params, state.averaged, moved
        )
        return state.replace(averaged=averaged)


def first_state(
    config: ConfigDict,
    network: nn.Module,
    image_shape: tuple[int, ...],
    key: jax.Array,
    *,
    more_params: dict[str, Any] | None = None,
    rates: dict[str, float] | None = None,
) -> TrainState:
    """The state of a network before its first step.

    Args:
      config: of the experiment.
      network: that `config.network` describes.
      image_shape: `(height, width, channel)`.
      key: of the network's first parameters and of the run's random numbers.
      more_params: parameters of the method beside the network's.
      rates: by what the learning rate of some of these is multiplied, by their names.
    """
    init_key, run_key = jax.random.split(key)
    variables = network.init(init_key, jnp.zeros((1, *image_shape)), running_average=True)
    params = {**variables["params"], **(more_params or {})}
    state = TrainState.create(
        apply_fn=network.apply,
        params=params,
        tx=make_optimizer(config, rates),
        batch_stats=variables.get("batch_stats", {}),
        averaged=jax.tree.map(jnp.copy, params) if config.train.ema else None,
        key=run_key,
    )
    return state.replace(step=jnp.zeros((), jnp.int32))


def network_variables(variables: dict[str, Any]) -> dict[str, Any]:
    """The variables without a method's own parameters: a network's, to be used by any method."""
    params = {name: tree for name, tree in variables["params"].items() if name not in _BESIDE_THE_NETWORK}
    return {**variables, "params": params}


def _backbone(variables: dict[str, Any]) -> dict[str, Any]:
    """A network's variables without its head."""
    return {name: tree.get("backbone", tree) for name, tree in variables.items()}


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): tuple(np.shape(leaf)) for path, leaf in leaves}


def make_optimizer(config: ConfigDict, rates: dict[str, float] | None = None) -> optax.GradientTransformation:
    """The optax optimiser that `config.train` describes, for what `config.network.trainable` names.

    All other parameters keep every bit.

    Args:
      config: of the experiment.
      rates: by what the learning rate is multiplied, for parameters of these names at the top of the tree.
    """
    optimizer = _optimizer(config)
    if rates:
        optimizer = optax.chain(optimizer, optax.stateless(_multiplied(rates)))
    if config.network.trainable == "all":
        return optimizer
    stage = networks.last_stage(config)

    def labels(params: Any) -> Any:
        mask = networks.trainable_mask(params, config.network.trainable, stage)
        return jax.tree.map(lambda trained: "trained" if trained else "frozen", mask)

    return optax.multi_transform({"trained": optimizer, "frozen": optax.stateless(_nothing)}, labels)


def _multiplied(rates: dict[str, float]) -> Callable[[Any, Any], Any]:
    """Multiplies updates, which the learning rate is a factor of, by those of their parameter's name."""

    def multiply(updates: Any, _: Any) -> Any:
        return {
            name: jax.tree.map(lambda update: update * rates[name], tree) if name in rates else tree  # noqa: B023
            for name, tree in updates.items()
        }

    return multiply


def _nothing(updates: Any, _: Any) -> Any:
    """Updates of −0: adding it keeps −0, where adding 0 would not."""
    return jax.tree.map(lambda update: jnp.full_like(update, -0.0), updates)


def _optimizer(config: ConfigDict) -> optax.GradientTransformation:
    rate = learning_rate(config)
    if config.train.optimizer == "adam":
        return optax.adam(rate)
    if config.train.optimizer == "adamw":
        return optax.adamw(rate, weight_decay=config.train.weight_decay)
    return optax.chain(
        optax.add_decayed_weights(config.train.weight_decay), optax.sgd(rate, momentum=0.9, nesterov=True)
    )


def learning_rate(config: ConfigDict) -> optax.Schedule:
    """The learning rate at each step: linear warm-up, then the config's schedule.

    Restarts of the cosine: Loshchilov and Hutter, 2017, https://arxiv.org/abs/1608.03983.
    """
    train = config.train
    if train.schedule == "cosine":
        restarts = [step for step in train.restarts if train.warmup_steps < step < train.steps]
        lengths = np.diff([train.warmup_steps, *restarts, max(train.steps, train.warmup_steps + 1)]).tolist()
        main = optax.join_schedules(
            [
                optax.cosine_decay_schedule(train.learning_rate * 0.5**cycle, length)
                for cycle, length in enumerate(lengths)
            ],
            [step - train.warmup_steps for step in restarts],
        )
    elif train.schedule == "halving":
        main = optax.exponential_decay(train.learning_rate, train.halving_steps, 0.5, staircase=True)
    else:
        main = optax.constant_schedule(train.learning_rate)
    if not train.warmup_steps:
        return main
    warmup = optax.linear_schedule(0.0, train.learning_rate, train.warmup_steps)
    return optax.join_schedules([warmup, main], [train.warmup_steps])
