"""Triplet loss with mining in the batch: the baseline of metric learning (Schroff et al., 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fsljax.classification import task as fine_grained
from fsljax.classification.task import LabelledBatch, Task
from fsljax.config import check_choice
from fsljax.data.dataset import Splits
from fsljax.data.samplers.batches import draw_classes
from fsljax.data.samplers.episodes import ClassTable, class_table
from fsljax.errors import UserError
from fsljax.losses import triplet_loss
from fsljax.losses.triplet import MINING
from fsljax.training.method import Evaluation, TrainingData
from fsljax.training.state import TrainState

# Accuracy: Rippel et al., table 1, their own triplet network classified by its nearest neighbours.
PUBLISHED = {
    "oxford_flowers102": {"nearest_neighbour": {"Rippel et al. 2016": 0.83}},
    "oxford_iiit_pet": {"nearest_neighbour": {"Rippel et al. 2016": 0.865}},
    "stanford_dogs": {"nearest_neighbour": {"Rippel et al. 2016": 0.642}},
}


def default_config() -> ConfigDict:
    """Defaults of the triplet loss."""
    config = fine_grained.default_config("triplet")
    config.loss = ConfigDict({"margin": 0.2, "mining": "semi_hard"})
    config.network.normalize = True
    return config.lock()


def check(config: ConfigDict) -> None:
    """Raises a UserError for values that cannot work, whatever the data."""
    fine_grained.check(config)
    check_choice(config, "loss.mining", MINING)
    if not config.loss.margin > 0:
        raise UserError(f"config.loss.margin is {config.loss.margin}; it must be above 0.")
    if config.train.examples < 2:
        raise UserError(
            f"config.train.examples is {config.train.examples}: a triplet takes two examples of a class, so "
            "take 2 or more of each."
        )


@dataclass(frozen=True)
class Triplet:
    """A triplet network on a data set; see `fsljax.training.method.Method`."""

    task: Task

    @property
    def refresh_every(self) -> int:
        return 0

    @property
    def draws_ahead(self) -> bool:
        return True

    def refresh(self, state: TrainState, data: TrainingData) -> TrainState:
        return state

    def init(self, key: jax.Array) -> TrainState:
        return self.task.embedder.init(key)

    def training_data(self, variables: dict[str, Any]) -> TrainingData:
        return self.task.training_data(variables, class_table(self.task.training_part.labels))

    def draw(self, state: TrainState, index: ClassTable) -> LabelledBatch:
        draw_key, _ = jax.random.split(state.step_key())
        train = self.task.config.train
        classes, rows = draw_classes(draw_key, index, classes=train.clusters, examples=train.examples)
        return LabelledBatch(rows.reshape(-1), jnp.repeat(classes, train.examples))

    def learn(
        self, state: TrainState, batch: LabelledBatch, inputs: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        _, change_key = jax.random.split(state.step_key())

        def loss_of(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
            embeddings, batch_stats = self.task.embedder.embed_for_training(
                params, state.batch_stats, inputs, change_key, state.step
            )
            loss = self.task.config.loss
            output = triplet_loss(embeddings, batch.labels, margin=loss.margin, mining=loss.mining)
            return output.loss, (output.active, batch_stats)

        (loss, (active, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        state = state.updated(gradients, batch_stats, ema=self.task.config.train.ema)
        return state, {"loss": loss, "active": active}

    def validate(self, variables: dict[str, Any]) -> dict[str, float]:
        return self.task.validate(variables)

    def evaluate(self, variables: dict[str, Any]) -> Evaluation:
        return self.task.evaluate(variables, published=PUBLISHED)


def build(config: ConfigDict, splits: Splits) -> Triplet:
    """A triplet network on `splits`.

    Raises:
      UserError: if the config asks for batches that the data cannot give.
    """
    check(config)
    task = fine_grained.build_task(config, splits)
    fine_grained.check_batch(config, task.training_part, distinct_classes=True)
    return Triplet(task)
