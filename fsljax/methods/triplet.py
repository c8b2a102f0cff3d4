"""Triplet loss with in-batch mining, the baseline of metric learning (Schroff et al., 2015)."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from chex import ArrayTree
from ml_collections import ConfigDict

from fsljax.classification.config import ClosedSet
from fsljax.classification.task import LabelledBatch, Task, build_task, check_batch, check_closed_set
from fsljax.config import Network, config_dict, field, section
from fsljax.data.dataset import Splits
from fsljax.data.samplers.batches import draw_classes
from fsljax.data.samplers.episodes import ClassTable, class_table
from fsljax.errors import UserError
from fsljax.losses import triplet_loss
from fsljax.losses.triplet import MINING
from fsljax.networks.variables import Params, Variables
from fsljax.parallel import shares
from fsljax.training.method import Evaluation, TrainingData
from fsljax.training.state import TrainState

# Accuracy: Rippel et al., table 1, their own triplet network classified by its nearest neighbours.
PUBLISHED = {
    "oxford_flowers102": {"nearest_neighbour": {"Rippel et al. 2016": 0.83}},
    "oxford_iiit_pet": {"nearest_neighbour": {"Rippel et al. 2016": 0.865}},
    "stanford_dogs": {"nearest_neighbour": {"Rippel et al. 2016": 0.642}},
}


@dataclass(frozen=True)
class Loss:
    """The triplet loss, with triplets mined within the batch."""

    margin: float = field(
        0.2, "margin between the distances to another class and to the example's own", above=0
    )
    mining: str = field("semi_hard", "mining strategy: which triplets of the batch are used", choices=MINING)


@dataclass(frozen=True)
class Config(ClosedSet):
    """A triplet network."""

    method: str = field("triplet", "method: a module of fsljax.methods")
    network: Network = section(Network, normalize=True)
    loss: Loss = section(Loss)


def default_config() -> ConfigDict:
    """Defaults of the triplet loss."""
    return config_dict(Config())


def check(config: Config) -> None:
    """Raises a UserError for fields that contradict each other, whatever the data."""
    check_closed_set(config)
    if config.train.examples < 2:
        raise UserError(
            f"config.train.examples is {config.train.examples}: a triplet needs two examples of a class, so "
            "use 2 or more."
        )


@dataclass(frozen=True)
class Triplet:
    """A triplet network on a data set; see `fsljax.training.method.Method`."""

    config: Config
    task: Task
    episodes_per_step = 1

    @property
    def refresh_every(self) -> int:
        return 0

    @property
    def prefetchable(self) -> bool:
        return True

    def refresh(self, state: TrainState, data: TrainingData) -> TrainState:
        return state

    def init(self, key: jax.Array) -> TrainState:
        return self.task.embedder.init(key)

    def training_data(self, variables: Variables) -> TrainingData:
        return self.task.training_data(variables, class_table(self.task.training_part.labels))

    def draw(self, state: TrainState, index: ClassTable) -> LabelledBatch:
        draw_key, _ = jax.random.split(state.step_key())
        train = self.config.train
        classes, rows = draw_classes(draw_key, index, classes=train.clusters, examples=train.examples)
        return LabelledBatch(rows.reshape(-1), jnp.repeat(classes, train.examples))

    def learn(
        self, state: TrainState, batch: LabelledBatch, inputs: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        _, change_key = jax.random.split(state.step_key())

        def loss_of(params: Params) -> tuple[jax.Array, tuple[jax.Array, ArrayTree]]:
            embeddings, batch_stats = self.task.embedder.embed_for_training(
                params, state.batch_stats, inputs, change_key, state.step
            )
            loss = self.config.loss
            embeddings = shares.gathered(embeddings)
            output = triplet_loss(embeddings, batch.labels, margin=loss.margin, mining=loss.mining)
            return output.loss, (output.active, batch_stats)

        (loss, (active, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        state = state.updated(gradients, batch_stats, ema=self.config.train.ema)
        return state, {"loss": loss, "active": active}

    def validate(self, variables: Variables) -> dict[str, float]:
        return self.task.validate(variables)

    def evaluate(self, variables: Variables) -> Evaluation:
        return self.task.evaluate(variables, published=PUBLISHED)


def build(config: Config, splits: Splits) -> Triplet:
    """A triplet network on `splits`.

    Raises:
      UserError: if the data are too small for the batches that the config asks for.
    """
    task = build_task(config, splits)
    check_batch(config, task.training_part, distinct_classes=True)
    return Triplet(config, task)
