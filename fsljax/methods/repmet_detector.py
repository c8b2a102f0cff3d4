"""RepMet's detector (Karlinsky et al., 2019): representatives learned with a detector of two stages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fsljax import networks
from fsljax.config import (
    check_at_least,
    check_choice,
    check_seeds,
    check_shared,
    check_whole,
    dataclass_fields,
    dataclass_from,
    shared_config,
)
from fsljax.detection.data.scenes.composition import SceneOptions
from fsljax.detection.data.source import DRAWINGS, SOURCES, DetectionBatch, DetectionData, load
from fsljax.detection.evaluation import base_classes as detector_evaluation
from fsljax.detection.evaluation import few_shot as few_shot_detection
from fsljax.detection.model.detector import Detector, DetectorOptions
from fsljax.detection.model.inference import Regions, find_regions
from fsljax.detection.model.losses import LossOptions, detector_losses
from fsljax.detection.model.roi_head import BACKGROUND, KINDS, RoIOptions, repmet_scores
from fsljax.detection.model.rpn import ProposalOptions
from fsljax.distances import normalize
from fsljax.errors import UserError
from fsljax.losses.repmet import VERSIONS
from fsljax.training.method import Evaluation, TrainingData
from fsljax.training.state import TrainState, create_train_state

__all__ = ["RepMetDetector", "build", "build_network", "check", "default_config", "load"]

_RESET = 2  # folded into a step's key, as no batch's is
_REGION, _BATCH = 0, 1


def default_config() -> ConfigDict:
    """Defaults, as published where a CPU does not forbid it."""
    config = shared_config()
    config.method = "repmet_detector"
    config.data.update(
        {
            "name": "scenes",
            "image_size": 128,  # pixels a side; of photographs, which are padded to a square
            "drawings": "omniglot",  # of which scenes are made; or "glyphs"
            "base": (),  # names of the classes that are trained; (): all of a set of photographs
            "novel": (),  # and of those that are not
            "limit": 0,  # images of each split, for a dry run; 0: all
            "train_split": "train",  # of a set of photographs
            "test_split": "val",
            "years": (2007, 2012),  # of VOC; the test split is of the first
            "drop_bad_boxes": False,  # those outside their image or without area, instead of an error
        }
    )
    config.scenes = ConfigDict(dataclass_fields(SceneOptions))
    config.pyramid = ConfigDict({"channels": 256, "extra_levels": 1})
    config.proposals = ConfigDict(dataclass_fields(ProposalOptions, sizes=(32.0, 64.0, 128.0, 256.0, 512.0)))
    config.proposals.keep_in_test = 300
    config.rois = ConfigDict(dataclass_fields(RoIOptions))
    config.rois.update({"output_size": 7, "samples": 2, "canonical_size": 224.0, "canonical_level": 2})
    config.head = ConfigDict({"kind": "repmet", "hidden": 1024, "dim": 256, "normalize": True})
    config.representatives = ConfigDict(
        {
            "per_class": 5,  # k
            "reset_every": 0,  # steps between clusterings of embeddings; 0: none
            "reset_until": 0,  # step from which they are learned only
            "reset_images": 2_000,  # that are looked at for it
            "normalize": True,  # to length 1, as embeddings are by head.normalize
            "rate": 1.0,  # by which the learning rate is multiplied for them
        }
    )
    config.loss = ConfigDict(dataclass_fields(LossOptions, rois=None))
    config.train.images = 16  # of a step
    config.train.flip = False  # photographs, half of them from left to right
    config.validation = ConfigDict({"images": 128})
    config.eval = ConfigDict({**detector_evaluation.EVALUATION, **few_shot_detection.EVALUATION})
    return config.lock()


def check(config: ConfigDict) -> None:
    """Raises a UserError for values that cannot work, whatever the data."""
    check_shared(config, SOURCES)
    check_choice(config, "data.drawings", DRAWINGS)
    check_choice(config, "head.kind", KINDS)
    check_choice(config, "loss.version", VERSIONS)
    check_at_least(
        config, 1,
        "pyramid.channels", "head.hidden", "head.dim", "representatives.per_class",
        "representatives.reset_images", "train.images", "rois.sampled", "rois.output_size", "rois.samples",
        "rois.canonical_size", "proposals.sizes", "proposals.keep", "proposals.keep_in_test",
        "proposals.before_nms", "proposals.sampled", "validation.images", "eval.images",
        "eval.classes", "eval.keep",
    )  # fmt: skip
    check_at_least(
        config, 0,
        "pyramid.extra_levels", "rois.jittered", "rois.jitter", "rois.canonical_level", "loss.hard",
        "loss.alpha", "loss.embedding", "loss.linear", "loss.boxes", "data.limit", "representatives.rate",
        "representatives.reset_every", "representatives.reset_until",
    )  # fmt: skip
    check_whole(config, "scenes.characters", "scenes.fragments")
    check_seeds(config, "eval.seed")
    few_shot_detection.check(config)
    for name in ("loss.sigma", "loss.embedding_sigma", "loss.scale"):
        section, field = name.split(".")
        if not config[section][field] > 0:
            raise UserError(f"config.{name} is {config[section][field]}; it must be above 0.")
    for section in ("rois", "proposals"):
        options = config[section]
        if not 0 <= options.low <= options.high <= 1:
            raise UserError(
                f"config.{section}.low is {options.low} and high {options.high}; they must rise from 0 to 1."
            )
        if not 0 < options.positive_fraction <= 1:
            raise UserError(
                f"config.{section}.positive_fraction is {options.positive_fraction}; it must be above 0 and "
                "at most 1."
            )
    if config.head.kind == "linear" and config.loss.linear:
        raise UserError(
            "config.loss.linear is the weight of a linear classifier beside representatives, but "
            "config.head.kind is 'linear', which has no other: let it be 0."
        )
    if config.data.name == "scenes" and config.data.channels != 1:
        raise UserError("Scenes are grey: set --config.data.channels=1.")
    if config.data.name == "scenes" and config.scenes.size != config.data.image_size:
        raise UserError(
            f"config.scenes.size is {config.scenes.size} and config.data.image_size "
            f"{config.data.image_size}: give both the same value."
        )
    build_network(config, 2)


def build_network(config: ConfigDict, classes: int, *, in_test: bool = False) -> Detector:
    """The detector that a config describes.

    Args:
      config: of the experiment.
      classes: that are trained.
      in_test: keep as many proposals as are looked at in tests.

    Raises:
      UserError: if a field has a value that cannot be.
    """
    backbone = networks.build_backbone(config)
    strides = backbone.stage_strides()
    levels = len(strides) + config.pyramid.extra_levels
    sizes = tuple(float(size) for size in config.proposals.sizes)
    if len(sizes) % levels:
        raise UserError(
            f"config.proposals.sizes holds {len(sizes)} anchor sizes for {levels} levels of the pyramid: "
            "each level must get as many."
        )
    if config.data.image_size % strides[-1]:
        raise UserError(
            f"config.data.image_size is {config.data.image_size}; it must be a multiple of {strides[-1]}, "
            f"the last stride of {config.network.name}."
        )
    a_level = len(sizes) // levels
    proposals = dataclass_from(
        ProposalOptions,
        config.proposals,
        sizes=tuple(sizes[level * a_level : (level + 1) * a_level] for level in range(levels)),
        keep=config.proposals.keep_in_test if in_test else config.proposals.keep,
    )
    rois, head, network = config.rois, config.head, config.network
    with_linear = head.kind == "linear" or config.loss.linear
    options = DetectorOptions(
        proposals,
        channels=config.pyramid.channels,
        extra_levels=config.pyramid.extra_levels,
        hidden=head.hidden,
        dim=head.dim,
        linear_classes=classes if with_linear else 0,
        normalize=head.normalize,
        output_size=rois.output_size,
        samples=rois.samples,
        canonical_size=rois.canonical_size,
        canonical_level=rois.canonical_level,
        input_mean=tuple(network.input_mean),
        input_std=tuple(network.input_std),
        frozen_statistics=network.frozen_statistics,
    )
    return Detector(backbone, options)


@dataclass(frozen=True)
class RepMetDetector:
    """A detector on a data set; see `fsljax.training.method.Method`.

    The representatives `[classes, k, dim]` are parameters beside the network's; a detector with a linear head
    has none.
    """

    config: ConfigDict
    data: DetectionData

    @property
    def classes(self) -> int:
        return len(self.data.class_names)

    @cached_property
    def network(self) -> Detector:
        return build_network(self.config, self.classes)

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
        network_key, own_key = jax.random.split(key)
        options, more = self.config.representatives, {}
        if self._has_representatives:
            shape = (self.classes, options.per_class, self.config.head.dim)
            more = {"representatives": normalize(jax.random.normal(own_key, shape))}
        side = self.config.data.image_size
        return create_train_state(
            self.config,
            self.network,
            (side, side, self.config.data.channels),
            network_key,
            more_params=more,
            rates={"representatives": options.rate},
        )

    def training_data(self, variables: dict[str, Any]) -> TrainingData:
        return self.data.training_data()

    def draw(self, state: TrainState, index: Any) -> DetectionBatch:
        """The batch of a step: by its key and number alone."""
        key = jax.random.fold_in(state.step_key(), _BATCH)
        return self.data.draw(key, state.key, state.step, index, self.config.train.images)

    def learn(
        self, state: TrainState, batch: DetectionBatch, inputs: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One step on a batch and its inputs, those at `batch.rows`."""
        key = jax.random.fold_in(state.step_key(), _REGION)
        region_key, change_key = jax.random.split(key)
        images, truths, sizes = self.data.seen(change_key, batch, inputs)

        def loss_of(params: Any) -> tuple[jax.Array, Any]:
            learned = detector_losses(
                self.network,
                _of_network(params),
                state.batch_stats,
                self.representatives(params),
                region_key,
                images,
                truths,
                self._loss_options,
                sizes,
            )
            return learned.loss, learned

        (_, learned), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        state = state.updated(gradients, learned.batch_stats, ema=self.config.train.ema)
        return state, {"loss": learned.loss, **learned.figures}

    def representatives(self, params: Any) -> jax.Array | None:
        """`[classes, k, dim]` as they are compared with embeddings; None with a linear head."""
        if not self._has_representatives:
            return None
        held = params["representatives"]
        return normalize(held) if self.config.representatives.normalize else held

    def refresh(self, state: TrainState, data: TrainingData) -> TrainState:
        """Puts the representatives at clusters of the embeddings of each class's true boxes."""
        options = self.config.representatives
        if not 0 < int(state.step) < options.reset_until:
            return state
        key = jax.random.fold_in(state.step_key(), _RESET)
        held = detector_evaluation.clustered(
            key,
            self.data.labelled_images(key, data, options.reset_images),
            partial(self.embed_truths, state.inference_variables()),
            np.asarray(state.params["representatives"]),
        )
        return _with_representatives(state, jnp.asarray(held))

    def validate(self, variables: dict[str, Any]) -> dict[str, float]:
        if self.config.data.train_on == "train_and_validation":
            return {}
        return detector_evaluation.validate(self, variables)

    def evaluate(self, variables: dict[str, Any]) -> Evaluation:
        evaluation = detector_evaluation.evaluate(self, variables)
        return few_shot_detection.with_episodes(self, variables, evaluation)

    def embed_truths(self, variables: dict[str, Any], images: jax.Array, boxes: jax.Array) -> jax.Array:
        """Embeddings `[b, t, dim]` of boxes `[b, t, 4]` in images `[b, height, width, channel]`."""
        return self._embed_truths(_inference(variables), images, boxes)

    def find(self, variables: dict[str, Any], images: jax.Array, sizes: jax.Array | None = None) -> Regions:
        """The regions of images `[b, height, width, channel]` that may hold an object.

        Args:
          variables: of the network.
          images: in [0, 1].
          sizes: `[b, 2]`, heights and widths without padding; None: there is none.
        """
        whole = np.full((len(images), 2), images.shape[1:3], np.float32)
        heights, widths = np.moveaxis(whole if sizes is None else np.asarray(sizes, np.float32), 1, 0)
        return self._find(_inference(variables), images, heights, widths)

    def scores(
        self, variables: dict[str, Any], regions: Regions, classes: np.ndarray | None = None
    ) -> jax.Array:
        """Probabilities `[b, p, 1 + c]` of the trained classes `[c]`, all by default, background first."""
        held = self.representatives(variables["params"])
        if held is None:
            logits: Any = self.network.apply(_inference(variables), regions.features, method="linear_logits")
            chosen = np.arange(self.classes) if classes is None else classes
            return jax.nn.softmax(logits[..., np.append(BACKGROUND, 1 + chosen)], axis=-1)
        held = held if classes is None else held[classes]
        return repmet_scores(regions.embeddings, held, self.config.loss.sigma, self.config.loss.scale)

    @cached_property
    def _loss_options(self) -> LossOptions:
        rois = dataclass_from(RoIOptions, self.config.rois)
        return dataclass_from(LossOptions, self.config.loss, rois=rois)

    @cached_property
    def test_network(self) -> Detector:
        """The network that proposes as many regions as are looked at in tests."""
        return build_network(self.config, self.classes, in_test=True)

    @cached_property
    def _find(self) -> Any:
        return jax.jit(partial(find_regions, self.test_network))

    @cached_property
    def _embed_truths(self) -> Any:
        def embed(variables: Any, images: jax.Array, boxes: jax.Array) -> Any:
            levels = self.network.apply(variables, images, method="trunk")
            roi = self.network.apply(variables, levels, boxes, method="roi_features")
            return self.network.apply(variables, roi, method="embed")

        return jax.jit(embed)


def build(config: ConfigDict, data: DetectionData) -> RepMetDetector:
    """A detector on `data`.

    Raises:
      UserError: if the config asks for what the data cannot give.
    """
    check(config)
    method = RepMetDetector(config, data)
    if method.classes < 2:
        raise UserError(f"There are {method.classes} classes to train on; a detector needs two or more.")
    return method


def _inference(variables: dict[str, Any]) -> dict[str, Any]:
    return {"params": _of_network(variables["params"]), "batch_stats": variables["batch_stats"]}


def _of_network(params: Any) -> Any:
    return {name: tree for name, tree in params.items() if name != "representatives"}


@jax.jit
def _with_representatives(state: TrainState, held: jax.Array) -> TrainState:
    return state.with_parameter("representatives", held)
