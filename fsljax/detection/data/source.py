"""What a detector trains on and is tested on: scenes without end, or sets of photographs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fsljax.config import dataclass_from
from fsljax.detection.data.novel import NovelImages, NovelScenes
from fsljax.detection.data.scenes import drawings as scene_drawings
from fsljax.detection.data.scenes.composition import Drawings, Scene, SceneOptions, draw_scenes
from fsljax.detection.data.scenes.drawings import SceneDrawings
from fsljax.detection.data.truths import Truths
from fsljax.training.method import TrainingData

DRAWINGS = ("omniglot", "glyphs")
SOURCES = ("scenes", "coco", "voc", "imagenet_loc")

_SCENES_A_BATCH = 16


class DetectionBatch(NamedTuple):
    """A batch of a step.

    Attributes:
      rows: int32, positions of its images in the inputs.
      images: float `[images, height, width, channel]` where they are drawn rather than read, else None.
      truths: of the images.
      sizes: int32 `[images, 2]`, heights and widths without padding; None: there is none.
    """

    rows: jax.Array
    images: jax.Array | None
    truths: Truths
    sizes: jax.Array | None = None


class LabelledImages(NamedTuple):
    """Images and what is in them.

    Attributes:
      images: float `[b, height, width, channel]` in [0, 1].
      truths: of them.
      sizes: int32 `[b, 2]`, heights and widths without padding; None: there is none.
    """

    images: jax.Array
    truths: Truths
    sizes: jax.Array | None = None


class DetectionData(Protocol):
    """Where a detector's images are from."""

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the classes that are trained."""

    def fingerprints(self) -> dict[str, str]: ...

    def training_data(self) -> TrainingData: ...

    def draw(
        self, key: jax.Array, run_key: jax.Array, step: jax.Array | int, index: Any, count: int
    ) -> DetectionBatch:
        """The batch of a step, by its key, or by the run's and the step's number."""

    def seen(self, key: jax.Array, batch: DetectionBatch, inputs: jax.Array) -> LabelledImages:
        """What a step sees of a batch and its inputs, changed at random by the key."""

    def labelled_images(self, key: jax.Array, data: TrainingData, count: int) -> Iterator[LabelledImages]:
        """Batches of about so many training images."""

    def test_images(
        self, count: int, seed: int, classes: np.ndarray | None = None, *, training: bool = False
    ) -> Iterator[LabelledImages]:
        """Batches of so many images, of some of the trained classes or of all.

        They were never trained on, unless those that were are asked for.
        """

    @property
    def novel_images(self) -> NovelImages | None:
        """Of the classes that are not trained; None: there are none."""


class SceneIndex(NamedTuple):
    """The drawings that scenes of training are made of."""

    base: Drawings


@dataclass(frozen=True)
class Scenes:
    """Scenes of drawn characters, endless; see `DetectionData`.

    Attributes:
      drawings: base and novel characters.
      options: what scenes look like.
    """

    drawings: SceneDrawings
    options: SceneOptions

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.drawings.base_names

    def fingerprints(self) -> dict[str, str]:
        parts = {
            "train": self.drawings.base,
            "validation": self.drawings.base_test,
            "test": self.drawings.novel,
        }
        return {
            name: hashlib.sha256(np.ascontiguousarray(part.images).data).hexdigest()
            for name, part in parts.items()
        }

    def training_data(self) -> TrainingData:
        return TrainingData(np.zeros((1, 1), np.uint8), SceneIndex(self.drawings.base))

    def draw(
        self, key: jax.Array, run_key: jax.Array, step: jax.Array | int, index: SceneIndex, count: int
    ) -> DetectionBatch:
        scenes = self._draw(jax.random.split(key, count), index.base, jnp.arange(len(self.class_names)))
        return DetectionBatch(jnp.zeros(1, jnp.int32), scenes.image, _truths(scenes))

    def seen(self, key: jax.Array, batch: DetectionBatch, inputs: jax.Array) -> LabelledImages:
        assert batch.images is not None
        return LabelledImages(batch.images, batch.truths)

    def labelled_images(self, key: jax.Array, data: TrainingData, count: int) -> Iterator[LabelledImages]:
        return self._batches(key, count, data.index.base, jnp.arange(len(self.class_names)))

    def test_images(
        self, count: int, seed: int, classes: np.ndarray | None = None, *, training: bool = False
    ) -> Iterator[LabelledImages]:
        drawings = self.drawings.base if training else self.drawings.base_test
        allowed = jnp.arange(len(self.class_names)) if classes is None else jnp.asarray(classes)
        return self._batches(jax.random.key(seed), count, drawings, allowed, self.drawings.base)

    @property
    def novel_images(self) -> NovelImages:
        return NovelScenes(self.drawings, self.options)

    def _batches(
        self,
        key: jax.Array,
        count: int,
        drawings: Drawings,
        allowed: jax.Array,
        clutter: Drawings | None = None,
    ) -> Iterator[LabelledImages]:
        """Whole batches of so many scenes or a few more."""
        for number in range(-(-count // _SCENES_A_BATCH)):
            keys = jax.random.split(jax.random.fold_in(key, number), _SCENES_A_BATCH)
            scenes = self._drawn(keys, drawings, allowed, clutter)
            yield LabelledImages(scenes.image, _truths(scenes))

    def _draw(
        self, keys: jax.Array, drawings: Drawings, allowed: jax.Array, clutter: Drawings | None = None
    ) -> Scene:
        return draw_scenes(keys, drawings, allowed, clutter=clutter, options=self.options)

    @cached_property
    def _drawn(self) -> Any:
        return jax.jit(self._draw)


def load(config: ConfigDict) -> DetectionData:
    """The data that `config.data` names.

    Raises:
      UserError: if they are missing or unfit, saying what to do.
    """
    data = config.data
    if data.name != "scenes":
        from fsljax.detection.data import photographs

        return photographs.load(config)
    drawings = scene_drawings.load(
        data.drawings,
        part="test" if data.train_on == "train_and_validation" else "validation",
        data_dir=data.data_dir or None,
        seed=data.split_seed,
    )
    return Scenes(drawings, dataclass_from(SceneOptions, config.scenes))


def _truths(scenes: Scene) -> Truths:
    return Truths(scenes.boxes, scenes.labels, scenes.mask)
