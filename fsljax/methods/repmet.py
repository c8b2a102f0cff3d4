"""RepMet (Karlinsky et al., 2019): classification by representatives that are learned with the network.

Divided by examples, it is tested on the classes it was trained on; divided by classes, in episodes of classes
that it never saw, whose representatives are made of their support.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fsljax.classification import few_shot
from fsljax.classification import representatives as by_representatives
from fsljax.classification import task as fine_grained
from fsljax.classification.closed_set import Part, find_clusters
from fsljax.classification.report import (
    cluster_gallery_section,
    confused_pairs_section,
    representatives_in_use_section,
)
from fsljax.classification.representatives import RULES, SupportRule
from fsljax.classification.task import LabelledBatch, Task
from fsljax.clustering import every_cluster
from fsljax.config import check_at_least, check_choice
from fsljax.data.dataset import ImageDataset, Splits
from fsljax.data.samplers.batches import draw_classes, shuffled_rows
from fsljax.data.samplers.episodes import ClassTable, class_table
from fsljax.distances import normalize
from fsljax.errors import UserError
from fsljax.evaluation.agreement import purity
from fsljax.evaluation.episodic import Classify
from fsljax.losses import repmet_loss
from fsljax.losses.repmet import VERSIONS
from fsljax.reporting.embedding_map import Clusters
from fsljax.reporting.sections import Section, embedding_map_section
from fsljax.training.method import Evaluation, TrainingData
from fsljax.training.state import TrainState

# Accuracy: the paper's comparison on fine-grained classification.
PUBLISHED = {"oxford_flowers102": {"soft_posterior": {"Karlinsky et al. 2019": 0.89}}}
BATCHES = ("classes", "shuffled")
STARTS = ("clusters", "random")

_RESET = 2  # folded into a step's key; what it is split into are the numbers before


def default_config() -> ConfigDict:
    """Defaults of RepMet."""
    config = fine_grained.default_config("repmet")
    config.loss = ConfigDict({"version": "v2", "sigma": 0.5, "alpha": 1.0, "squared": False})
    config.representatives = ConfigDict(
        {
            "per_class": 3,  # k
            "start": "clusters",  # of the embeddings of the training set; or "random"
            "reset_every": 0,  # steps between clusterings anew; 0: none after the start
            "reset_until": 0,  # step from which they are learned only
            "normalize": True,  # to length 1, as embeddings are by network.normalize
            "learn_sigma": False,  # from loss.sigma on
            "rate": 1.0,  # by which the learning rate is multiplied for them
            "sigma_rate": 1.0,  # and for σ
        }
    )
    config.network.normalize = True
    config.train.batches = "classes"  # train.examples of each of train.clusters classes, or "shuffled"
    config.validation = ConfigDict(dict(few_shot.VALIDATION))
    config.eval.update(few_shot.EVALUATION)
    config.eval.update(
        {
            "support_representatives": 0,  # of a class that was not trained; 0: its whole support
            "support_rule": "soft_posterior",
            "fine_tune_steps": 0,  # of these representatives, in a setting of its own
            "fine_tune_rate": 0.1,
        }
    )
    return config.lock()


def check(config: ConfigDict) -> None:
    """Raises a UserError for values that cannot work, whatever the data."""
    fine_grained.check(config, unseen_classes=True)
    few_shot.check(config)
    check_choice(config, "loss.version", VERSIONS)
    check_choice(config, "train.batches", BATCHES)
    check_choice(config, "representatives.start", STARTS)
    check_choice(config, "eval.support_rule", RULES)
    check_at_least(config, 1, "representatives.per_class")
    check_at_least(
        config, 0,
        "loss.alpha", "representatives.reset_every", "representatives.reset_until", "representatives.rate",
        "representatives.sigma_rate", "eval.support_representatives", "eval.fine_tune_steps",
        "eval.fine_tune_rate",
    )  # fmt: skip
    if not config.loss.sigma > 0:
        raise UserError(f"config.loss.sigma is {config.loss.sigma}; it must be above 0.")
    if config.loss.squared and config.loss.version != "margin":
        raise UserError(
            f"config.loss.squared is for the margin, but config.loss.version is {config.loss.version!r}, "
            "which takes squared distances as it is: let it be False."
        )
    if config.data.split_by == "classes" and config.data.merge:
        raise UserError("config.data.merge needs parts that share their classes: let it be empty.")


class Index(NamedTuple):
    """The classes of the training examples, int32 `[n]`, and where the examples of each are."""

    labels: jax.Array | np.ndarray
    table: ClassTable


@dataclass(frozen=True)
class RepMet:
    """A network and representatives on a data set; see `fsljax.training.method.Method`.

    The representatives `[classes, k, dim]` are parameters beside the network's; where σ is learned, it is the
    softplus of another. `method_state` is where the representatives began.
    """

    task: Task

    @property
    def config(self) -> ConfigDict:
        return self.task.config

    @property
    def refresh_every(self) -> int:
        options = self.config.representatives
        if options.reset_every and options.reset_until:
            return options.reset_every
        return self.config.train.steps if options.start == "clusters" else 0

    @property
    def draws_ahead(self) -> bool:
        return True

    def init(self, key: jax.Array) -> TrainState:
        options = self.config.representatives
        network_key, own_key = jax.random.split(key)
        shape = (self.task.training_part.num_classes, options.per_class, self.task.embedder.dim())
        own: dict[str, jax.Array] = {"representatives": normalize(jax.random.normal(own_key, shape))}
        if options.learn_sigma:
            own["sigma"] = jnp.log(jnp.expm1(jnp.float32(self.config.loss.sigma)))
        state = self.task.embedder.init(
            network_key,
            more_params=own,
            rates={"representatives": options.rate, "sigma": options.sigma_rate},
        )
        return state.replace(method_state=jnp.copy(own["representatives"]))

    def training_data(self, variables: dict[str, Any]) -> TrainingData:
        labels = self.task.training_part.labels
        return self.task.training_data(variables, Index(labels, class_table(labels)))

    def refresh(self, state: TrainState, data: TrainingData) -> TrainState:
        """Puts the representatives at clusters of each class's embeddings: at the start, and until told."""
        options, step = self.config.representatives, int(state.step)
        if not (step < options.reset_until or (step == 0 and options.start == "clusters")):
            return state
        shuffle_key, cluster_key = jax.random.split(jax.random.fold_in(state.step_key(), _RESET))
        embeddings = self.task.embedder.embed_as_in_training(
            state.inference_variables(), data.inputs, shuffle_key
        )
        found = find_clusters(
            cluster_key,
            Part(self.task.training_part, embeddings),
            options.per_class,
        )
        return _reset(state, found.centroids, found.counts)

    def draw(self, state: TrainState, index: Index) -> LabelledBatch:
        """The batch of a step: by its key and number alone."""
        train = self.config.train
        if train.batches == "shuffled":
            size = train.clusters * train.examples
            rows = shuffled_rows(state.key, state.step, len(index.labels), size)
            return LabelledBatch(rows, jnp.asarray(index.labels)[rows])
        classes, rows = draw_classes(
            jax.random.split(state.step_key())[0],
            index.table,
            classes=train.clusters,
            examples=train.examples,
        )
        return LabelledBatch(rows.reshape(-1), jnp.repeat(classes, train.examples))

    def learn(
        self, state: TrainState, batch: LabelledBatch, inputs: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One step on a batch and its inputs, those at `batch.rows`."""
        change_key = jax.random.split(state.step_key())[1]
        options = self.config.loss

        def loss_of(params: Any) -> tuple[jax.Array, tuple[Any, Any]]:
            embeddings, batch_stats = self.task.embedder.embed_for_training(
                params, state.batch_stats, inputs, change_key, state.step
            )
            output = repmet_loss(
                embeddings,
                batch.labels,
                self._representatives(params),
                sigma=self._sigma(params),
                alpha=options.alpha,
                version=options.version,
                squared=options.squared,
            )
            return output.loss, (output, batch_stats)

        (loss, (output, batch_stats)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        state = state.updated(gradients, batch_stats, ema=self.config.train.ema)
        right = jnp.argmax(output.posteriors, axis=-1) == batch.labels
        moved = self._representatives(state.params) - self._scaled(state.method_state)
        figures = {
            "loss": loss,
            "accuracy": jnp.mean(right, dtype=jnp.float32),
            "movement": jnp.mean(jnp.linalg.norm(moved, axis=-1)),
        }
        if self.config.representatives.learn_sigma:
            figures["sigma"] = self._sigma(state.params)
        return state, figures

    def validate(self, variables: dict[str, Any]) -> dict[str, float]:
        if self.config.data.split_by == "examples":
            return self.task.validate(variables, partial(self._predictions, variables, "soft_posterior"))
        if self.config.data.train_on == "train_and_validation":
            return {}
        part = self.task.part(variables, self.task.splits.validation)
        accuracy = few_shot.validation_accuracy(
            self.config, part.data, part.embeddings, self.support_rule(variables)
        )
        return {"accuracy": accuracy}

    def evaluate(self, variables: dict[str, Any]) -> Evaluation:
        if self.config.data.split_by == "classes":
            return self._evaluate_unseen(variables)
        evaluation = self.task.evaluate(
            variables,
            published=PUBLISHED,
            predict={rule: partial(self._predictions, variables, rule) for rule in RULES},
            report=partial(self._sections, variables),
        )
        test = self.task.splits.test
        if test.fine_labels is not None:
            found = Clusters(*self._placed(variables)).nearest(
                self.task.part(variables, test).embeddings, test.labels
            )
            places = test.labels.astype(np.int64) * self.config.representatives.per_class + found
            evaluation.test["nearest_representative"]["purity"] = purity(places, test.fine_labels)
        return evaluation

    def support_rule(self, variables: dict[str, Any], *, fine_tune_steps: int = 0) -> SupportRule:
        """How classes that were not trained are told apart by a support."""
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

    def _evaluate_unseen(self, variables: dict[str, Any]) -> Evaluation:
        rules: dict[str, Classify] = {"": self.support_rule(variables)}
        if steps := self.config.eval.fine_tune_steps:
            rules[f"_ft{steps}"] = self.support_rule(variables, fine_tune_steps=steps)
        return few_shot.evaluate(self.config, self.task.part(variables, self.task.splits.test), rules)

    def _representatives(self, params: Any) -> jax.Array:
        return self._scaled(params["representatives"])

    def _scaled(self, held: jax.Array) -> jax.Array:
        return normalize(held) if self.config.representatives.normalize else held

    def _sigma(self, params: Any) -> jax.Array | float:
        return jax.nn.softplus(params["sigma"]) if "sigma" in params else self.config.loss.sigma

    def _predictions(self, variables: dict[str, Any], rule: str, part: Part) -> np.ndarray:
        params = variables["params"]
        found = by_representatives.classify(
            part.embeddings, self._representatives(params), sigma=float(self._sigma(params))
        )
        return np.asarray(found.predictions[rule])

    def _placed(self, variables: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Representatives, and that all of them exist."""
        held = np.asarray(self._representatives(variables["params"]))
        return held, np.ones(held.shape[:2], int)

    def _sections(
        self, variables: dict[str, Any], train: Part, test: Part, predicted: np.ndarray
    ) -> list[Section]:
        everywhere = Clusters(*self._placed(variables))
        nearest = everywhere.nearest(train.embeddings, train.data.labels)
        counts = by_representatives.counts_in_use(nearest, train.data.labels, everywhere.counts.shape)
        names, labels, images = test.data.class_names, test.data.labels, test.data.images
        used = Clusters(everywhere.centroids, counts)
        return [
            embedding_map_section(
                test.embeddings, labels, names, images, clusters=everywhere, called="representative"
            ),
            confused_pairs_section(labels, predicted, names, images),
            cluster_gallery_section(
                train.embeddings, train.data.labels, names, train.data.images, used, called="representative"
            ),
            representatives_in_use_section(counts, names),
        ]


@jax.jit
def _reset(state: TrainState, centroids: jax.Array, counts: jax.Array) -> TrainState:
    """Puts the representatives at centroids, and keeps where that was."""
    held = every_cluster(centroids, counts)
    return state.with_parameter("representatives", held).replace(method_state=jnp.copy(held))


def build(config: ConfigDict, splits: Splits) -> RepMet:
    """A network with representatives on `splits`.

    Raises:
      UserError: if the config asks for batches or episodes that the data cannot give.
    """
    check(config)
    for part in (splits.train, splits.validation):
        _check_labels(part)
    task = fine_grained.build_task(config, splits)
    fine_grained.check_batch(config, task.training_part, distinct_classes=config.train.batches == "classes")
    if config.data.split_by == "classes":
        few_shot.check_parts(config, splits.validation, splits.test)
    fine_grained.tell_of_small_classes(config, task.training_part, "representatives.per_class")
    return RepMet(task)


def _check_labels(part: ImageDataset) -> None:
    """A label beyond the classes would make a loss of NaN in compiled code, which names no label."""
    if len(part) and (part.labels.min() < 0 or part.labels.max() >= part.num_classes):
        raise UserError(
            f"The images' labels lie from {part.labels.min()} to {part.labels.max()}; they must be 0 to "
            f"{part.num_classes - 1}."
        )
