"""An endless stream of scenes of drawn characters, composed on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.detection.config import Augmentation, Config, SceneOptions
from fsljax.detection.data.scenes import drawings as scene_drawings
from fsljax.detection.data.scenes.composition import Drawings, Scene, draw_scenes
from fsljax.detection.data.scenes.drawings import SceneDrawings
from fsljax.detection.data.scenes.novel import NovelScenes
from fsljax.detection.data.structures import GroundTruth, ImageBatch
from fsljax.errors import UserError
from fsljax.parallel import shares
from fsljax.training.method import TrainingData

_SCENES_A_BATCH = 16


class SceneIndex(NamedTuple):
    """The drawings that training scenes are composed of."""

    base: Drawings


@dataclass(frozen=True)
class Scenes:
    """Scenes of drawn characters; see `fsljax.detection.data.source.DetectionData`.

    Attributes:
      drawings: base and novel characters.
      options: appearance of the scenes.
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
    ) -> ImageBatch:
        keys = shares.share(jax.random.split(key, count))
        scenes = self._draw(keys, index.base, jnp.arange(len(self.class_names)))
        return _batch(scenes)._replace(rows=jnp.zeros(count, jnp.int32))

    def augmented(self, key: jax.Array, batch: ImageBatch, inputs: jax.Array) -> ImageBatch:
        return batch

    def training_images(self, key: jax.Array, data: TrainingData, count: int) -> Iterator[ImageBatch]:
        return self._batches(key, count, data.index.base, jnp.arange(len(self.class_names)))

    def test_images(
        self, count: int, seed: int, classes: np.ndarray | None = None, *, training: bool = False
    ) -> Iterator[ImageBatch]:
        drawings = self.drawings.base if training else self.drawings.base_test
        allowed = jnp.arange(len(self.class_names)) if classes is None else jnp.asarray(classes)
        return self._batches(jax.random.key(seed), count, drawings, allowed, self.drawings.base)

    @property
    def novel_images(self) -> NovelScenes:
        return NovelScenes(self.drawings, self.options)

    def _batches(
        self,
        key: jax.Array,
        count: int,
        drawings: Drawings,
        allowed: jax.Array,
        clutter: Drawings | None = None,
    ) -> Iterator[ImageBatch]:
        """Whole batches of so many scenes or a few more."""
        for number in range(-(-count // _SCENES_A_BATCH)):
            keys = jax.random.split(jax.random.fold_in(key, number), _SCENES_A_BATCH)
            yield _batch(self._drawn(keys, drawings, allowed, clutter))

    def _draw(
        self, keys: jax.Array, drawings: Drawings, allowed: jax.Array, clutter: Drawings | None = None
    ) -> Scene:
        return draw_scenes(keys, drawings, allowed, clutter=clutter, options=self.options)

    @cached_property
    def _drawn(self) -> Callable[..., Scene]:
        return jax.jit(self._draw)


def check(config: Config) -> None:
    """Raises a UserError for scene options that contradict each other."""
    if config.data.channels != 1:
        raise UserError("Scenes are grey: set --config.data.channels=1.")
    if config.scenes.size != config.data.image_size:
        raise UserError(
            f"config.scenes.size is {config.scenes.size} and config.data.image_size "
            f"{config.data.image_size}: give both the same value."
        )
    if config.augment != Augmentation() or config.train.repeat_threshold:
        raise UserError(
            "config.augment and config.train.repeat_threshold are for photographs; scenes are generated in "
            "each step as config.scenes says: leave them at their defaults."
        )


def load(config: Config) -> Scenes:
    """Scenes of the drawings that `config.data.drawings` names, with the options of `config.scenes`.

    Raises:
      UserError: if a character would be larger than its scene, or the drawings are missing.
    """
    data = config.data
    if config.scenes.sides[1] > config.scenes.size:
        raise UserError(
            f"config.scenes.sides is {config.scenes.sides}, but config.scenes.size is {config.scenes.size}: "
            "no character may be larger than its scene."
        )
    drawings = scene_drawings.load(
        data.drawings,
        part="test" if data.train_on == "train_and_validation" else "validation",
        data_dir=data.data_dir or None,
        seed=data.split_seed,
    )
    return Scenes(drawings, config.scenes)


def _batch(scenes: Scene) -> ImageBatch:
    return ImageBatch(scenes.image, GroundTruth(scenes.boxes, scenes.labels, scenes.mask))
