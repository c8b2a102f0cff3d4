"""The state of a run: everything needed to resume as if it had never stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from chex import ArrayTree
from flax import struct
from flax.training import train_state

from fsljax.config import Experiment
from fsljax.deprecated import names_of
from fsljax.errors import UserError
from fsljax.networks.variables import Params, Variables
from fsljax.parallel import shares
from fsljax.training.optimizer import make_optimizer


class TrainState(train_state.TrainState):
    """Flax's TrainState, extended by what the methods need besides parameters and optimiser.

    Attributes:
      batch_stats: running averages of batch norm.
      ema_params: exponential moving average of the parameters; None without averaging.
      key: base key of the run; the random numbers of a step come from `fold_in(key, step)`.
      method_state: further state of the method, such as Magnet's clusters; None: nothing.
      method_params: names of top-level parameters that belong to the method rather than to its network.
      divided: names, anywhere in the tree, of arrays whose rows are sharded over devices, and their numbers
        of rows; see `config.mesh.divide_classes`.
    """

    batch_stats: ArrayTree
    ema_params: ArrayTree | None
    key: jax.Array
    method_state: Any = None
    method_params: tuple[str, ...] = struct.field(pytree_node=False, default=())
    divided: tuple[tuple[str, int], ...] = struct.field(pytree_node=False, default=())

    def step_key(self) -> jax.Array:
        """The random key of this step."""
        return jax.random.fold_in(self.key, self.step)

    def inference_variables(self) -> Variables:
        """Parameters (averaged, if averaging is on) and batch statistics, for evaluation."""
        params = self.params if self.ema_params is None else self.ema_params
        return {"params": params, "batch_stats": self.batch_stats}

    def network_variables(self) -> Variables:
        """The variables of `inference_variables` that belong to the network."""
        return without_params(self.inference_variables(), self.method_params)

    def started_from(self, variables: Variables, source: str) -> TrainState:
        """This initial state with the parameters and batch statistics of another network.

        Args:
          variables: variables of a network only.
          source: where they come from, for error messages.

        Raises:
          UserError: if they belong to a different network.
        """
        here = without_params({"params": self.params, "batch_stats": self.batch_stats}, self.method_params)
        there = variables
        if _shapes(here) != _shapes(there):
            # With another head, or none, there or here: the backbone is what can be taken.
            ours, theirs = _shapes(_backbone(here)), _shapes(_backbone(there))
            if ours != theirs:
                differing = sorted(set(ours.items()) ^ set(theirs.items()))[0][0]
                raise UserError(
                    f"The network in {source} (config.network.init_from) does not match this config: "
                    f"{differing} is {theirs.get(differing, 'missing')} there and "
                    f"{ours.get(differing, 'missing')} here."
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
            ema_params=None if self.ema_params is None else jax.tree.map(jnp.copy, params),
        )

    def with_parameter(self, name: str, value: jax.Array) -> TrainState:
        """This state with a new value of a parameter, whose optimiser state is reset."""
        value = value.astype(self.params[name].dtype)

        def forgotten(path: tuple[Any, ...], moment: jax.Array) -> jax.Array:
            is_of_parameter = any(getattr(key, "key", None) == name for key in path)
            return jnp.zeros_like(moment) if is_of_parameter else moment

        return self.replace(
            params={**self.params, name: value},
            ema_params=None if self.ema_params is None else {**self.ema_params, name: value},
            opt_state=jax.tree_util.tree_map_with_path(forgotten, self.opt_state),
        )

    def updated(self, gradients: Params, batch_stats: ArrayTree, *, ema: float) -> TrainState:
        """The state after one optimiser step.

        Args:
          gradients: gradients of the loss of this device's share of the batch.
          batch_stats: batch statistics of that share.
          ema: decay of the averaged parameters; see `config.train.ema`.
        """
        names = [name for name, _ in self.divided]
        # Each device has the gradient of all devices' losses for what it alone holds.
        alone = {name: gradients[name] / shares.count() for name in names if name in gradients}
        others = {name: tree for name, tree in gradients.items() if name not in alone}
        others, batch_stats = shares.mean((others, batch_stats))
        gradients = {name: (alone | others)[name] for name in gradients} if alone else others
        state = self.apply_gradients(grads=gradients, batch_stats=batch_stats)
        if state.ema_params is None:
            return state
        moved = optax.incremental_update(state.params, state.ema_params, 1 - ema)
        # The mean of equal numbers is that number: rounding must not move what is not trained.
        averaged = jax.tree.map(
            lambda new, old, mean: jnp.where(new == old, old, mean), state.params, state.ema_params, moved
        )
        return state.replace(ema_params=averaged)


def create_train_state(
    config: Experiment,
    network: nn.Module,
    image_shape: tuple[int, ...],
    key: jax.Array,
    *,
    more_params: Params | None = None,
    rates: dict[str, float] | None = None,
) -> TrainState:
    """The state of a network before the first step.

    Args:
      config: the experiment's config.
      network: the network that `config.network` describes.
      image_shape: `(height, width, channel)`.
      key: key for initialising the network and for the random numbers of the run.
      more_params: parameters of the method in addition to the network's.
      rates: learning rate multipliers for some of these, by name.
    """
    init_key, run_key = jax.random.split(key)
    variables = network.init(init_key, jnp.zeros((1, *image_shape)), running_average=True)
    params = {**variables["params"], **(more_params or {})}
    state = TrainState.create(
        apply_fn=network.apply,
        params=params,
        tx=make_optimizer(config, rates),
        batch_stats=variables.get("batch_stats", {}),
        ema_params=jax.tree.map(jnp.copy, params) if config.train.ema else None,
        key=run_key,
    )
    return state.replace(step=jnp.zeros((), jnp.int32), method_params=tuple(more_params or ()))


def without_params(variables: Variables, names: Sequence[str]) -> Variables:
    """The variables without the parameters of these names: those of the network, usable by any method."""
    params = {name: tree for name, tree in variables["params"].items() if name not in names}
    return {**variables, "params": params}


def _backbone(variables: Variables) -> Variables:
    """A network's variables without its head."""
    return {name: tree.get("backbone", tree) for name, tree in variables.items()}


def _shapes(tree: ArrayTree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): tuple(np.shape(leaf)) for path, leaf in leaves}


__getattr__ = names_of(__name__)
