"""RepMet (Karlinsky et al., 2019): class representatives learned jointly with the network.

Split by examples, it is tested on the classes it was trained on; by classes, in episodes of new ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from chex import ArrayTree
from ml_collections import ConfigDict

from fsljax.classification import few_shot
from fsljax.classification.closed_set import class_labels
from fsljax.classification.config import ClosedSet, ClosedSetTrain, FewShotValidation
from fsljax.classification.embedder import Part
from fsljax.classification.heads import Head, Representatives
from fsljax.classification.report import report_sections
from fsljax.classification.representatives import (
    RULES,
    BatchLoss,
    Loss,
    RepresentativeEval,
    RepresentativeOptions,
    SupportRule,
    batch_loss,
    classify,
    mean_length,
    representative_purity,
)
from fsljax.classification.task import (
    LabelledBatch,
    Task,
    build_task,
    check_batch,
    check_closed_set,
    check_labels,
    warn_of_small_classes,
)  # fmt: skip
from fsljax.clustering import every_cluster
from fsljax.config import Network, config_dict, field, section
from fsljax.data.dataset import Splits
from fsljax.data.samplers.batches import draw_classes, shuffled_rows
from fsljax.data.samplers.episodes import ClassTable, class_table
from fsljax.distances import normalize
from fsljax.errors import UserError
from fsljax.evaluation.episodic import Classify
from fsljax.networks.variables import Params, Variables
from fsljax.training.method import Evaluation, TrainingData
from fsljax.training.state import TrainState

# Accuracy: the paper's comparison on fine-grained classification.
PUBLISHED = {"oxford_flowers102": {"soft_posterior": {"Karlinsky et al. 2019": 0.89}}}
BATCHES = ("classes", "shuffled")
PARAMS = ("representatives", "sigma")

_RESET = 2  # folded into a step's key; what it is split into are the numbers before


@dataclass(frozen=True)
class RepMetTrain(ClosedSetTrain):
    """Batches of equally many examples per class, or shuffled ones."""

    batches: str = field(
        "classes", 'train.examples of each of train.clusters classes, or "shuffled"', choices=BATCHES
    )


@dataclass(frozen=True)
class Config(ClosedSet):
    """A network with representatives."""

    method: str = field("repmet", "method: a module of fsljax.methods")
    network: Network = section(Network, normalize=True)
    loss: Loss = section(Loss)
    representatives: RepresentativeOptions = section(RepresentativeOptions)
    train: RepMetTrain = section(RepMetTrain)
    validation: FewShotValidation = section(FewShotValidation)
    eval: RepresentativeEval = section(RepresentativeEval, free=True)


def default_config() -> ConfigDict:
    """Defaults of RepMet."""
    return config_dict(Config())


def check(config: Config) -> None:
    """Raises a UserError for fields that contradict each other, whatever the data."""
    check_closed_set(config, unseen_classes=True)
    few_shot.check(config.eval)
    if config.loss.squared and config.loss.version != "margin":
        raise UserError(
            f"config.loss.squared is for the margin, but config.loss.version is {config.loss.version!r}, "
            "which uses squared distances anyway: set it to False."
        )
    if config.data.split_by == "classes" and config.data.merge:
        raise UserError("config.data.merge needs splits that share their classes: leave it empty.")


class Index(NamedTuple):
    """The class of each training example, int32 `[n]`, and the positions of the examples of each class."""

    labels: jax.Array | np.ndarray
    table: ClassTable


@dataclass(frozen=True)
class RepMet:
    """A network and representatives on a data set; see `fsljax.training.method.Method`.

    The representatives `[classes, k, dim]` are parameters in addition to the network's; if σ is learned, it
    is the softplus of another parameter. `method_state` holds them as initialised or last reset.
    """

    config: Config
    task: Task
    episodes_per_step = 1

    @property
    def refresh_every(self) -> int:
        options = self.config.representatives
        if options.reset_every and options.reset_until:
            return options.reset_every
        return self.config.train.steps if options.start == "clusters" else 0

    @property
    def prefetchable(self) -> bool:
        return True

    def init(self, key: jax.Array) -> TrainState:
        options = self.config.representatives
        network_key, representatives_key = jax.random.split(key)
        shape = (self._classes, options.per_class, self.task.embedder.dim())
        representatives = normalize(jax.random.normal(representatives_key, shape))
        params = {"representatives": representatives}
        if options.learn_sigma:
            params["sigma"] = jnp.log(jnp.expm1(jnp.asarray(self.config.loss.sigma, float)))
        state = self.task.embedder.init(
            network_key,
            more_params=params,
            rates={"representatives": options.rate, "sigma": options.sigma_rate},
        )
        divided = (("representatives", shape[0]), ("method_state", shape[0]))
        return state.replace(
            method_state=jnp.copy(representatives),
            divided=divided if self.config.mesh.divide_classes else (),
        )

    @property
    def _classes(self) -> int:
        return self.task.training_part.num_classes

    def training_data(self, variables: Variables) -> TrainingData:
        labels = self.task.training_part.labels
        return self.task.training_data(variables, Index(labels, class_table(labels)))

    def refresh(self, state: TrainState, data: TrainingData) -> TrainState:
        """Resets the representatives to cluster means of each class's embeddings, until `reset_until`."""
        options, step = self.config.representatives, int(state.step)
        if not (step < options.reset_until or (step == 0 and options.start == "clusters")):
            return state
        shuffle_key, cluster_key = jax.random.split(jax.random.fold_in(state.step_key(), _RESET))
        embeddings = self.task.embedder.embed_as_in_training(
            state.inference_variables(), data.inputs, shuffle_key
        )
        clusters = self.task.find_clusters(cluster_key, embeddings, options.per_class)
        return _reset(state, clusters.centroids, clusters.counts)

    def draw(self, state: TrainState, index: Index) -> LabelledBatch:
        train = self.config.train
        if train.batches == "shuffled":
            size = train.clusters * train.examples
            rows = shuffled_rows(state.key, state.step, len(index.labels), size)
            return LabelledBatch(rows, jnp.asarray(index.labels)[rows])
        draw_key, _ = jax.random.split(state.step_key())
        classes, rows = draw_classes(draw_key, index.table, classes=train.clusters, examples=train.examples)
        return LabelledBatch(rows.reshape(-1), jnp.repeat(classes, train.examples))

    def learn(
        self, state: TrainState, batch: LabelledBatch, inputs: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        _, change_key = jax.random.split(state.step_key())

        def loss_of(params: Params) -> tuple[jax.Array, tuple[BatchLoss, jax.Array, ArrayTree]]:
            embeddings, batch_stats = self.task.embedder.embed_for_training(
                params, state.batch_stats, inputs, change_key, state.step
            )
            own, sigma = self._representatives(params), self._sigma(params)
            output = batch_loss(embeddings, batch.labels, own, self._classes, sigma, self.config.loss)
            return output.loss, (output, jax.lax.stop_gradient(own), batch_stats)

        measured = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        (loss, (output, own, batch_stats)), gradients = measured
        state = state.updated(gradients, batch_stats, ema=self.config.train.ema)
        moved = own - self._scaled(state.method_state)  # as of before the step
        figures = {
            "loss": loss,
            "accuracy": jnp.mean(output.right, dtype=jnp.float32),
            "movement": mean_length(moved, self._classes),
        }
        if self.config.representatives.learn_sigma:
            figures["sigma"] = jnp.asarray(self._sigma(state.params))
        return state, figures

    def validate(self, variables: Variables) -> dict[str, float]:
        if self.config.data.split_by == "examples":
            return self.task.validate(variables, partial(self._predictions, variables, "soft_posterior"))
        if self.config.data.train_on == "train_and_validation":
            return {}
        part = self.task.part(variables, self.task.splits.validation)
        accuracy = few_shot.validation_accuracy(self.config.validation, part, self.support_rule(variables))
        return {"accuracy": accuracy}

    def evaluate(self, variables: Variables) -> Evaluation:
        if self.config.data.split_by == "classes":
            return self._evaluate_unseen(variables)
        representatives = np.asarray(self._representatives(variables["params"]))
        rules = {rule: partial(self._predictions, variables, rule) for rule in RULES}
        evaluation = self.task.evaluate(
            variables, published=PUBLISHED, predict=rules, report=partial(report_sections, representatives),
            head=partial(self._head, variables),
        )  # fmt: skip
        test = self.task.splits.test
        if test.fine_labels is not None:
            embeddings = self.task.part(variables, test).embeddings
            evaluation.test["nearest_representative"]["purity"] = representative_purity(
                representatives, embeddings, test.labels, test.fine_labels
            )
        return evaluation

    def support_rule(self, variables: Variables, *, fine_tune_steps: int = 0) -> SupportRule:
        """How new classes are distinguished, given their support."""
        options, loss = self.config.eval, self.config.loss
        return SupportRule(
            sigma=float(self._sigma(variables["params"])),
            representatives=options.support_representatives,
            rule=options.support_rule,
            fine_tune_steps=fine_tune_steps,
            fine_tune_rate=options.fine_tune_rate,
            alpha=loss.alpha,
            version=loss.version,
            squared=loss.squared,
        )

    def _head(self, variables: Variables, train: Part) -> tuple[Head, str]:
        sigma, per_class = self._sigma(variables["params"]), self.config.eval.support_representatives
        head = Representatives(sigma=float(sigma), per_class=per_class)
        head.hold(class_labels(train.data), np.asarray(self._representatives(variables["params"])))
        return head, ""

    def _evaluate_unseen(self, variables: Variables) -> Evaluation:
        rules: dict[str, Classify | None] = {"": self.support_rule(variables)}
        if steps := self.config.eval.fine_tune_steps:
            rules[f"_ft{steps}"] = self.support_rule(variables, fine_tune_steps=steps)
        splits = self.task.splits
        test = self.task.part(variables, splits.test)
        return few_shot.evaluate(self.config.eval, test, rules, fixed=splits.episodes)

    def _representatives(self, params: Params) -> jax.Array:
        return self._scaled(params["representatives"])

    def _scaled(self, representatives: jax.Array) -> jax.Array:
        return normalize(representatives) if self.config.representatives.normalize else representatives

    def _sigma(self, params: Params) -> jax.Array | float:
        return jax.nn.softplus(params["sigma"]) if "sigma" in params else self.config.loss.sigma

    def _predictions(self, variables: Variables, rule: str, part: Part) -> np.ndarray:
        params = variables["params"]
        output = classify(part.embeddings, self._representatives(params), sigma=float(self._sigma(params)))
        return np.asarray(output.predictions[rule])


@jax.jit
def _reset(state: TrainState, centroids: jax.Array, counts: jax.Array) -> TrainState:
    """Puts the representatives at centroids, and keeps where that was."""
    representatives = every_cluster(centroids, counts)
    state = state.with_parameter("representatives", representatives)
    return state.replace(method_state=jnp.copy(state.params["representatives"]))


def build(config: Config, splits: Splits) -> RepMet:
    """A network with representatives on `splits`.

    Raises:
      UserError: if the data are too small for the batches or episodes that the config asks for.
    """
    for part in (splits.train, splits.validation):
        check_labels(part)
    task = build_task(config, splits)
    check_batch(config, task.training_part, distinct_classes=config.train.batches == "classes")
    if config.data.split_by == "classes":
        few_shot.check_parts(config, splits.validation, splits.test, splits.episodes)
    per_class = config.representatives.per_class
    warn_of_small_classes(task.training_part, per_class, "representatives.per_class")
    return RepMet(config, task)
