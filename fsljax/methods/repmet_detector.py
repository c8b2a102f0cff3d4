"""RepMet's detector (Karlinsky et al., 2019): representatives learned with a two-stage detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fsljax.config import config_dict
from fsljax.detection.config import Config
from fsljax.detection.config.torchvision import as_torchvision
from fsljax.detection.data.annotations.shots import check_pattern
from fsljax.detection.data.photograph_changes import check_amounts
from fsljax.detection.data.photographs import Photographs, check_annotated
from fsljax.detection.data.source import DetectionData, find_set, load
from fsljax.detection.data.structures import ImageBatch
from fsljax.detection.evaluate import check as check_test
from fsljax.detection.evaluate import evaluate
from fsljax.detection.evaluation import base_classes
from fsljax.detection.evaluation.baseline import check_baseline
from fsljax.detection.model.build import build_network
from fsljax.detection.model.detector import DetectorNetwork
from fsljax.detection.model.losses import detector_losses
from fsljax.detection.model.trained import (
    REPRESENTATIVES,
    TrainedDetector,
    compared_representatives,
    network_params,
)
from fsljax.distances import normalize
from fsljax.errors import UserError
from fsljax.networks.variables import Params, Variables
from fsljax.parallel.devices import chosen
from fsljax.training.method import Evaluation, TrainingData
from fsljax.training.state import TrainState, create_train_state

__all__ = ["PARAMS", "Config", "RepMetDetector", "as_torchvision", "build", "check", "default_config", "load"]

PARAMS = (REPRESENTATIVES,)
"""Parameters that belong to the method rather than to its network."""

_RESET = 2  # folded into a step's key, as no batch's is
_REGION, _BATCH = 0, 1


def default_config() -> ConfigDict:
    """Defaults, as published unless that is too slow on a CPU."""
    return config_dict(Config())


def check(config: Config) -> None:
    """Raises a UserError for values that contradict each other, whatever the data."""
    for name, options in (
        ("rois", config.rois),
        ("proposals", config.proposals),
        ("eval.enrol", config.eval.enrol),
    ):
        if options.low > options.high:
            raise UserError(
                f"config.{name}.low is {options.low} and high is {options.high}; low must not exceed high."
            )
    for name in ("characters", "distractors", "sides", "fragments", "strength", "contrast", "paper", "noise"):
        _check_range(f"scenes.{name}", getattr(config.scenes, name))
    if not config.scenes.characters[1]:
        raise UserError(f"config.scenes.characters is {config.scenes.characters}; a scene needs one or more.")
    if config.head.kind == "linear" and config.loss.linear:
        raise UserError(
            "config.loss.linear is the weight of a linear classifier alongside representatives, but "
            "config.head.kind is 'linear', which has no representatives: set it to 0."
        )
    check_amounts(config.augment)
    check_set = getattr(find_set(config.data.name), "check", None)
    if check_set is not None:
        check_set(config)
    build_network(config, 2)
    supports = config.eval.supports
    if config.eval.episodes and not config.eval.episodes_file and max(config.eval.shots) > supports:
        raise UserError(
            f"Generated episodes have {supports} supports per class, but {max(config.eval.shots)} were "
            "requested (config.eval.shots): request fewer, raise config.eval.supports, or give a file with "
            "more as config.eval.episodes_file."
        )
    if config.eval.novel_shots and config.eval.shots_file:
        check_pattern(config.eval.shots_file, config.eval.novel_shots, config.eval.seeds)
    if config.eval.baseline and (config.eval.episodes or config.eval.novel_shots):
        # Said before an hour's training rather than after it.
        check_baseline(config)


@dataclass(frozen=True)
class RepMetDetector:
    """A detector on a data set; see `fsljax.training.method.Method`.

    The representatives `[classes, k, dim]` are parameters in addition to the network's; a detector with a
    linear head has none.
    """

    config: Config
    data: DetectionData
    episodes_per_step = 1

    @property
    def classes(self) -> int:
        return len(self.data.class_names)

    @cached_property
    def network(self) -> DetectorNetwork:
        return build_network(self.config, self.classes)

    @cached_property
    def test_network(self) -> DetectorNetwork:
        """The network with the number of proposals used at test time."""
        return build_network(self.config, self.classes, in_test=True)

    @property
    def refresh_every(self) -> int:
        options = self.config.representatives
        return options.reset_every if self._has_representatives and options.reset_until else 0

    @property
    def prefetchable(self) -> bool:
        return True

    @property
    def _has_representatives(self) -> bool:
        return self.config.head.kind == "repmet"

    def init(self, key: jax.Array) -> TrainState:
        network_key, representative_key = jax.random.split(key)
        options, more = self.config.representatives, {}
        if self._has_representatives:
            shape = (self.classes, options.per_class, self.config.head.dim)
            more = {REPRESENTATIVES: normalize(jax.random.normal(representative_key, shape))}
        side = self.config.data.image_size
        return create_train_state(
            self.config,
            self.network,
            (side, side, self.config.data.channels),
            network_key,
            more_params=more,
            rates={REPRESENTATIVES: options.rate},
        )

    def training_data(self, variables: Variables) -> TrainingData:
        return self.data.training_data()

    def draw(self, state: TrainState, index: Any) -> ImageBatch:
        """The batch of a step, determined by its key and number alone."""
        key = jax.random.fold_in(state.step_key(), _BATCH)
        return self.data.draw(key, state.key, state.step, index, self.config.train.images)

    def learn(
        self, state: TrainState, batch: ImageBatch, inputs: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One training step on a batch and its inputs, those at `batch.rows`."""
        key = jax.random.fold_in(state.step_key(), _REGION)
        region_key, change_key = jax.random.split(key)
        images = self.data.augmented(change_key, batch, inputs)
        images = images._replace(
            images=jnp.asarray(images.images, jnp.result_type(*jax.tree.leaves(state.params)))
        )

        def loss_of(params: Params) -> tuple[jax.Array, Any]:
            learned = detector_losses(
                self.network,
                network_params(params),
                state.batch_stats,
                compared_representatives(self.config, params),
                region_key,
                images,
                self.config.loss,
            )
            return learned.loss, learned

        (_, learned), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        state = state.updated(gradients, learned.batch_stats, ema=self.config.train.ema)
        return state, {"loss": learned.loss, **learned.figures}

    def refresh(self, state: TrainState, data: TrainingData) -> TrainState:
        """Resets the representatives to cluster means of the embeddings of each class's true boxes."""
        options = self.config.representatives
        if not 0 < int(state.step) < options.reset_until:
            return state
        key = jax.random.fold_in(state.step_key(), _RESET)
        trained = self.trained(state.inference_variables())
        representatives = base_classes.clustered(
            key,
            self.data.training_images(key, data, options.reset_images),
            trained.embed_boxes,
            np.asarray(state.params[REPRESENTATIVES]),
            trained.devices,
        )
        return _with_representatives(state, jnp.asarray(representatives))

    def trained(self, variables: Variables) -> TrainedDetector:
        """The detector with these variables, as evaluation needs it."""
        devices = chosen(self.config.mesh.devices)
        return TrainedDetector(self.config, self.test_network, variables, self.classes, devices=devices)

    def validate(self, variables: Variables) -> dict[str, float]:
        if self.config.data.train_on == "train_and_validation":
            return {}
        return base_classes.validate(self.trained(variables), self.data)

    def check_test(self) -> None:
        """Raises a UserError if the data cannot provide the test that the config asks for."""
        check_test(self.config, self.data)

    def evaluate(self, variables: Variables) -> Evaluation:
        return evaluate(self.trained(variables), self.data)


def build(config: Config, data: DetectionData) -> RepMetDetector:
    """A detector on `data`.

    Raises:
      UserError: if the data cannot provide what the config asks for.
    """
    if isinstance(data, Photographs):
        check_annotated(config, data)
    method = RepMetDetector(config, data)
    if method.classes < 2:
        raise UserError(f"There are {method.classes} classes to train on; a detector needs two or more.")
    return method


def _check_range(name: str, limits: Sequence[float]) -> None:
    if limits[0] > limits[1]:
        raise UserError(f"config.{name} is {tuple(limits)}; the first number must not exceed the second.")


@jax.jit
def _with_representatives(state: TrainState, representatives: jax.Array) -> TrainState:
    return state.with_parameter(REPRESENTATIVES, representatives)
