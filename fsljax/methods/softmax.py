"""Softmax classification: the baseline of the Magnet and RepMet papers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from chex import ArrayTree
from ml_collections import ConfigDict

from fsljax.classification.closed_set import class_labels
from fsljax.classification.config import ClosedSet
from fsljax.classification.embedder import Part
from fsljax.classification.heads import Head
from fsljax.classification.heads.learned import SoftmaxLayer
from fsljax.classification.task import LabelledBatch, Task, build_task, check_batch, check_closed_set
from fsljax.config import config_dict, field, section
from fsljax.data.dataset import Splits
from fsljax.data.samplers.batches import shuffled_rows
from fsljax.networks.variables import Params, Variables
from fsljax.parallel import shares
from fsljax.training.method import Evaluation, TrainingData
from fsljax.training.state import TrainState

PARAMS = ("classifier",)


@dataclass(frozen=True)
class Loss:
    """Cross-entropy."""

    label_smoothing: float = field(
        0.0, "fraction of the target distribution spread over all classes", least=0, below=1
    )


@dataclass(frozen=True)
class Config(ClosedSet):
    """Softmax classification."""

    method: str = field("softmax", "method: a module of fsljax.methods")
    loss: Loss = section(Loss)


def default_config() -> ConfigDict:
    """Defaults of softmax classification."""
    return config_dict(Config())


def check(config: Config) -> None:
    """Raises a UserError for fields that contradict each other, whatever the data."""
    check_closed_set(config)


@dataclass(frozen=True)
class Softmax:
    """A network with a linear classifier; see `fsljax.training.method.Method`.

    Batches hold `train.clusters` × `train.examples` images, as in the methods it is compared with, drawn at
    random from all images; each image is used once per epoch.
    """

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
        network_key, classifier_key = jax.random.split(key)
        shape = (self.task.embedder.dim(), self.task.training_part.num_classes)
        kernel = jax.nn.initializers.lecun_normal()(classifier_key, shape)
        classifier = {"kernel": kernel, "bias": jnp.zeros(shape[1])}
        return self.task.embedder.init(network_key, more_params={"classifier": classifier})

    def training_data(self, variables: Variables) -> TrainingData:
        return self.task.training_data(variables, self.task.training_part.labels)

    def draw(self, state: TrainState, index: jax.Array) -> LabelledBatch:
        train = self.config.train
        rows = shuffled_rows(state.key, state.step, len(index), train.clusters * train.examples)
        return LabelledBatch(rows, index[rows])

    def learn(
        self, state: TrainState, batch: LabelledBatch, inputs: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        labels = shares.share(batch.labels)

        def loss_of(params: Params) -> tuple[jax.Array, tuple[jax.Array, ArrayTree]]:
            embeddings, batch_stats = self.task.embedder.embed_for_training(
                params, state.batch_stats, inputs, state.step_key(), state.step
            )
            logits = _logits(params, embeddings)
            targets = optax.smooth_labels(
                jax.nn.one_hot(labels, logits.shape[-1]), self.config.loss.label_smoothing
            )
            loss = jnp.mean(optax.softmax_cross_entropy(logits, targets))
            return loss, (jnp.mean(jnp.argmax(logits, -1) == labels, dtype=jnp.float32), batch_stats)

        (loss, (accuracy, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        state = state.updated(gradients, batch_stats, ema=self.config.train.ema)
        return state, {"loss": loss, "accuracy": accuracy}

    def validate(self, variables: Variables) -> dict[str, float]:
        return self.task.validate(variables, partial(_predictions, variables))

    def evaluate(self, variables: Variables) -> Evaluation:
        rules: dict[str, Callable[[Part], np.ndarray]] = {"softmax": partial(_predictions, variables)}
        if self.task.embedder.frozen:
            rules |= self.task.probes(variables)
        return self.task.evaluate(variables, predict=rules, head=partial(_head, variables))


def _logits(params: Params, embeddings: jax.Array) -> jax.Array:
    return embeddings @ params["classifier"]["kernel"] + params["classifier"]["bias"]


def _head(variables: Variables, train: Part) -> tuple[Head, str]:
    layer = variables["params"]["classifier"]
    kernel, bias = np.asarray(layer["kernel"]), np.asarray(layer["bias"])
    labels = class_labels(train.data)
    return SoftmaxLayer.of(labels, kernel, bias, train.embeddings, train.data.labels), "softmax"


def _predictions(variables: Variables, part: Part) -> np.ndarray:
    return np.asarray(jnp.argmax(_logits(variables["params"], jnp.asarray(part.embeddings)), axis=-1))


def build(config: Config, splits: Splits) -> Softmax:
    """A softmax classifier on `splits`.

    Raises:
      UserError: if the data are too small for the batches that the config asks for.
    """
    task = build_task(config, splits)
    check_batch(config, task.training_part, distinct_classes=False)
    return Softmax(config, task)
