"""Sets of photographs with boxes, as a detector trains on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from fsljax.data.batches import fill_rows
from fsljax.data.io.streaming import read
from fsljax.data.samplers.batches import shuffled_rows
from fsljax.detection.config import Augmentation, Config
from fsljax.detection.data.folds import hold_out
from fsljax.detection.data.image_sampling import repeat_factors, weighted_rows
from fsljax.detection.data.novel_photographs import NovelPhotographs
from fsljax.detection.data.photograph_batches import Sizing, flip_some, load_batch
from fsljax.detection.data.photograph_changes import UNCHANGED, Photos, changed
from fsljax.detection.data.set_operations import classes_of, take_classes
from fsljax.detection.data.structures import DetectionSet, ImageBatch, pad_ground_truth
from fsljax.errors import UserError, first_few
from fsljax.parallel import shares
from fsljax.training.method import TrainingData

_IMAGES_A_BATCH = 8


@dataclass(frozen=True, eq=False)
class Pixels:
    """The padded images of a set, `[n, side, side, 3]` uint8, read when they are indexed."""

    data: DetectionSet
    sizing: Sizing

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.data), *self.sizing.buckets()[0], 3)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        numbers = np.arange(len(self.data))[rows]
        batch = load_batch(self.data, self.sizing.buckets()[0], numbers.reshape(-1), self.sizing)
        return np.asarray(batch.images).reshape(*numbers.shape, *self.shape[1:])

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)


@dataclass(frozen=True)
class Photographs:
    """Photographs padded to squares; see `fsljax.detection.data.source.DetectionData`.

    Attributes:
      train, test: of the trained classes.
      side: of the squares, in pixels.
      flip: mirror half of the images of a step.
      novel: images with boxes of classes that are not trained; None: there are none.
      augment: how the images of a step are changed.
      repeat_threshold: share of the images below which a class is rare; 0: all images are taken as often.
      known: the images of `novel`, with boxes of the trained classes; None: nothing tells of any.
      shots: the training images, with boxes of classes that are not trained; None: there are none.
    """

    train: DetectionSet
    test: DetectionSet
    side: int
    flip: bool
    novel: DetectionSet | None = None
    augment: Augmentation = UNCHANGED
    repeat_threshold: float = 0.0
    known: DetectionSet | None = None
    shots: DetectionSet | None = None

    @property
    def sizing(self) -> Sizing:
        return Sizing(self.side, self.side, multiple=1)

    @property
    def notes(self) -> tuple[str, ...]:
        novel = () if self.novel is None else self.novel.notes
        return tuple(dict.fromkeys(self.train.notes + self.test.notes + novel))

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.train.class_names

    def fingerprints(self) -> dict[str, str]:
        test = self.test.fingerprint()
        return {"train": self.train.fingerprint(), "validation": test, "test": test}

    @cached_property
    def index(self) -> ImageBatch:
        """The boxes of all training images, scaled as these are, and the images' sizes; no images."""
        data, sizes = self.train, self.train.sizes.tolist()
        boxes = [
            boxes * np.tile(self.sizing.scale(size), 2) for boxes, size in zip(data.boxes, sizes, strict=True)
        ]
        ground_truth = pad_ground_truth(boxes, data.labels, data.difficult, least=1)
        return ImageBatch(
            None, ground_truth, np.array([self.sizing.scaled(size) for size in sizes], np.int32)
        )

    def training_data(self) -> TrainingData:
        return TrainingData(Pixels(self.train, self.sizing), self.index)  # type: ignore[arg-type]

    def draw(
        self, key: jax.Array, run_key: jax.Array, step: jax.Array | int, index: ImageBatch, count: int
    ) -> ImageBatch:
        if self.repeat_threshold:
            rows = weighted_rows(key, self._factors, count)
        else:
            if count > len(self.train):
                raise UserError(
                    f"A step takes {count} images (config.train.images), but only {len(self.train)} are "
                    f"there for training: set config.train.images to {len(self.train)} or fewer."
                )
            rows = shuffled_rows(run_key, step, len(self.train), count)
        batch: ImageBatch = jax.tree.map(lambda column: jnp.asarray(column)[rows], index)
        return batch._replace(rows=rows)

    @cached_property
    def _factors(self) -> np.ndarray:
        learned = [
            labels[~difficult]
            for labels, difficult in zip(self.train.labels, self.train.difficult, strict=True)
        ]
        return repeat_factors(learned, self.train.num_classes, self.repeat_threshold)

    def augmented(self, key: jax.Array, batch: ImageBatch, inputs: jax.Array) -> ImageBatch:
        ground_truth, sizes = shares.share((batch.ground_truth, batch.sizes))
        if self.flip:
            inputs, ground_truth = flip_some(key, inputs, ground_truth, jnp.asarray(sizes))
        images = inputs.astype(jnp.float32) / 255
        if self.augment != UNCHANGED:
            photos = Photos(images, ground_truth, jnp.asarray(sizes))
            images, ground_truth, sizes = changed(jax.random.fold_in(key, 1), photos, self.augment)
        return ImageBatch(images, ground_truth, sizes)

    def training_images(self, key: jax.Array, data: TrainingData, count: int) -> Iterator[ImageBatch]:
        rows = np.asarray(jax.random.permutation(key, len(self.train)))[:count]
        # The last batch is filled up with other images: one shape is compiled.
        whole = -(-len(rows) // _IMAGES_A_BATCH) * _IMAGES_A_BATCH
        for chosen in fill_rows(rows, whole).reshape(-1, _IMAGES_A_BATCH):
            inputs: Any = data.inputs
            pixels = np.asarray(inputs[chosen]) if isinstance(inputs, jax.Array) else read(inputs, chosen)
            batch: ImageBatch = jax.tree.map(
                lambda column, at=chosen: jnp.asarray(np.asarray(column)[at]), self.index
            )
            yield batch._replace(images=jnp.asarray(pixels, jnp.float32) / 255)

    def test_images(
        self, count: int, seed: int, classes: np.ndarray | None = None, *, training: bool = False
    ) -> Iterator[ImageBatch]:
        part = self.train if training else self.test
        for start in range(0, min(count, len(part)), _IMAGES_A_BATCH):
            rows = np.arange(start, min(start + _IMAGES_A_BATCH, count, len(part)))
            stored = load_batch(part, self.sizing.buckets()[0], rows, self.sizing)
            batch: ImageBatch = jax.tree.map(jnp.asarray, stored)
            ground_truth = batch.ground_truth
            if classes is not None:
                mask = ground_truth.mask & jnp.isin(ground_truth.labels, classes)
                ground_truth = ground_truth._replace(mask=mask)
            images = jnp.asarray(batch.images, jnp.float32) / 255
            yield ImageBatch(images, ground_truth, batch.sizes)

    @property
    def novel_images(self) -> NovelPhotographs | None:
        if self.novel is None:
            return None
        return NovelPhotographs(self.novel, self.sizing, self.known, self.shots)


def divided(
    config: Config,
    read_split: Callable[[str, tuple[str, ...]], DetectionSet],
    *,
    read_by_class: bool = False,
) -> Photographs:
    """The splits that `config.data` names, with its base and novel classes.

    Args:
      config: of the experiment.
      read_split: reads a split; of the classes named alone, or of all, where it reads by class.
      read_by_class: whether it does so.

    Raises:
      UserError: if they are missing or unfit, saying what to do.
    """
    data, novel = config.data, tuple(config.data.novel)
    train, test = (read_split(split, tuple(data.base)) for split in (data.train_split, data.test_split))
    names = tuple(data.base) or tuple(name for name in train.class_names if name not in novel)
    if both := sorted(set(novel) & set(names)):
        raise UserError(
            f"The class {both[0]} is in config.data.base and in config.data.novel: remove it from one."
        )
    of_novel = known = shots = None
    if novel:
        of_its_own = data.novel_split not in ("", data.test_split) or (read_by_class and data.base)
        whole = read_split(data.novel_split or data.test_split, novel) if of_its_own else test
        of_novel = take_classes(whole, novel)
        known, shots = classes_of(whole, names), classes_of(train, novel)
    if data.folds:
        train, names, of_novel, known = hold_out(data, train, test, names)
        shots = None
    # Objects of other classes are neither background nor to be learned.
    train = take_classes(train, names, others="difficult")
    return Photographs(
        train,
        take_classes(test, names),
        data.image_size,
        config.train.flip,
        of_novel,
        config.augment,
        config.train.repeat_threshold,
        known,
        shots,
    )


def check_annotated(config: Config, photographs: Photographs) -> None:
    """Raises a UserError where there is nothing to be learned, or nothing to be found."""
    data, validation, test_options = config.data, config.validation, config.eval
    train, test = photographs.train, photographs.test
    looked_at = [("eval", test_options.images)]
    if data.train_on != "train_and_validation":
        looked_at.append(("validation", validation.images))
    if not _has_objects(train, len(train)):
        raise UserError(
            f"No image of the split {data.train_split!r} has an object of the {train.num_classes} trained "
            f"classes ({first_few(train.class_names)}): there is nothing to learn. Give the split that is "
            "annotated, --config.data.train_split=NAME, or more images, --config.data.limit=0."
        )
    for section, count in looked_at:
        if not _has_objects(test, count):
            raise UserError(
                f"None of the first {min(count, len(test)):,} images of the split {data.test_split!r} has an "
                f"object of the {test.num_classes} trained classes ({first_few(test.class_names)}): there is "
                "nothing to measure. Give a split that is annotated, --config.data.test_split=NAME, or more "
                f"images, --config.{section}.images=N --config.data.limit=0."
            )


def _has_objects(data: DetectionSet, count: int) -> bool:
    return any(not difficult.all() for difficult in data.difficult[:count])


def folder_of(config: Config) -> str:
    """The folder that `config.data.path` names.

    Raises:
      UserError: it names none.
    """
    if not config.data.path:
        raise UserError(
            f"config.data.path is empty: give the folder of {config.data.name}, --config.data.path=DIR."
        )
    return config.data.path
