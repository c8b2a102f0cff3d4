"""Softmax classification: the baseline that the Magnet and RepMet papers compare with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from fsljax.classification import task as fine_grained
from fsljax.classification.closed_set import Part
from fsljax.classification.task import LabelledBatch, Task
from fsljax.config import check_share
from fsljax.data.dataset import Splits
from fsljax.data.samplers.batches import shuffled_rows
from fsljax.training.method import Evaluation, TrainingData
from fsljax.training.state import TrainState


def default_config() -> ConfigDict:
    """Defaults of softmax classification."""
    config = fine_grained.default_config("softmax")
    config.loss = ConfigDict({"label_smoothing": 0.0})
    return config.lock()


def check(config: ConfigDict) -> None:
    """Raises a UserError for values that cannot work, whatever the data."""
    fine_grained.check(config)
    check_share(config, "loss.label_smoothing")


@dataclass(frozen=True)
class Softmax:
    """A network with a linear classifier; see `fsljax.training.method.Method`.

    Batches hold `train.clusters` × `train.examples` images, as those of the methods it is compared with,
    drawn from all images by chance; each passes once before any comes again.
    """

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
        network_key, classifier_key = jax.random.split(key)
        shape = (self.task.embedder.dim(), self.task.training_part.num_classes)
        kernel = jax.nn.initializers.lecun_normal()(classifier_key, shape)
        classifier = {"kernel": kernel, "bias": jnp.zeros(shape[1])}
        return self.task.embedder.init(network_key, more_params={"classifier": classifier})

    def training_data(self, variables: dict[str, Any]) -> TrainingData:
        return self.task.training_data(variables, self.task.training_part.labels)

    def draw(self, state: TrainState, index: jax.Array) -> LabelledBatch:
        train = self.task.config.train
        rows = shuffled_rows(state.key, state.step, len(index), train.clusters * train.examples)
        return LabelledBatch(rows, index[rows])

    def learn(
        self, state: TrainState, batch: LabelledBatch, inputs: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        def loss_of(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
            embeddings, batch_stats = self.task.embedder.embed_for_training(
                params, state.batch_stats, inputs, state.step_key(), state.step
            )
            logits = _logits(params, embeddings)
            targets = optax.smooth_labels(
                jax.nn.one_hot(batch.labels, logits.shape[-1]), self.task.config.loss.label_smoothing
            )
            loss = jnp.mean(optax.softmax_cross_entropy(logits, targets))
            return loss, (jnp.mean(jnp.argmax(logits, -1) == batch.labels, dtype=jnp.float32), batch_stats)

        (loss, (accuracy, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        state = state.updated(gradients, batch_stats, ema=self.task.config.train.ema)
        return state, {"loss": loss, "accuracy": accuracy}

    def validate(self, variables: dict[str, Any]) -> dict[str, float]:
        return self.task.validate(variables, partial(_predictions, variables))

    def evaluate(self, variables: dict[str, Any]) -> Evaluation:
        own: dict[str, Any] = {"softmax": partial(_predictions, variables)}
        if self.task.embedder.frozen:
            own |= self.task.probes(variables)
        return self.task.evaluate(variables, predict=own)


def _logits(params: Any, embeddings: jax.Array) -> jax.Array:
    return embeddings @ params["classifier"]["kernel"] + params["classifier"]["bias"]


def _predictions(variables: dict[str, Any], part: Part) -> np.ndarray:
    return np.asarray(jnp.argmax(_logits(variables["params"], jnp.asarray(part.embeddings)), axis=-1))


def build(config: ConfigDict, splits: Splits) -> Softmax:
    """A softmax classifier on `splits`.

    Raises:
      UserError: if the config asks for batches that the data cannot give.
    """
    check(config)
    task = fine_grained.build_task(config, splits)
    fine_grained.check_batch(config, task.training_part, distinct_classes=False)
    return Softmax(task)
