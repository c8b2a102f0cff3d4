"""optax optimisers and learning rates, as `config.train` describes them."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from chex import ArrayTree

from fsljax import networks
from fsljax.config import Experiment
from fsljax.networks.variables import Params


def make_optimizer(config: Experiment, rates: dict[str, float] | None = None) -> optax.GradientTransformation:
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

    def labels(params: ArrayTree) -> ArrayTree:
        mask = networks.trainable_mask(params, config.network.trainable, stage)
        return jax.tree.map(lambda trained: "trained" if trained else "frozen", mask)

    return optax.multi_transform({"trained": optimizer, "frozen": optax.stateless(_nothing)}, labels)


def _multiplied(rates: dict[str, float]) -> Callable[[Params, ArrayTree | None], Params]:
    """Multiplies updates, which the learning rate is a factor of, by those of their parameter's name."""

    def multiply(updates: Params, _: ArrayTree | None) -> Params:
        return {
            name: jax.tree.map(lambda update: update * rates[name], tree) if name in rates else tree  # noqa: B023
            for name, tree in updates.items()
        }

    return multiply


def _nothing(updates: ArrayTree, _: ArrayTree | None) -> ArrayTree:
    """Updates of −0: adding it keeps −0, where adding 0 would not."""
    return jax.tree.map(lambda update: jnp.full_like(update, -0.0), updates)


def _optimizer(config: Experiment) -> optax.GradientTransformation:
    rate = learning_rate(config)
    if config.train.optimizer == "adam":
        return optax.adam(rate)
    if config.train.optimizer == "adamw":
        return optax.adamw(rate, weight_decay=config.train.weight_decay)
    return optax.chain(
        optax.add_decayed_weights(config.train.weight_decay), optax.sgd(rate, momentum=0.9, nesterov=True)
    )


def learning_rate(config: Experiment) -> optax.Schedule:
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
