"""Sets of photographs with boxes, as a detector trains on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fsljax.data.io.streaming import read
from fsljax.data.samplers.batches import shuffled_rows
from fsljax.detection.data.batches import Sizing, flip_some, load_batch
from fsljax.detection.data.novel import NovelPhotographs
from fsljax.detection.data.sets import coco, imagenet_loc, voc
from fsljax.detection.data.source import DetectionBatch, LabelledImages
from fsljax.detection.data.structures import DetectionSet, join, take_classes
from fsljax.detection.data.truths import Truths
from fsljax.errors import UserError
from fsljax.training.method import TrainingData

_IMAGES_A_BATCH = 8


class BoxIndex(NamedTuple):
    """The boxes of all training images.

    Attributes:
      truths: `[n, t, …]`.
      sizes: int32 `[n, 2]`, heights and widths without padding.
    """

    truths: Truths
    sizes: jax.Array | np.ndarray


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

    def __getitem__(self, rows: Any) -> np.ndarray:
        wanted = np.arange(len(self.data))[rows]
        found = load_batch(self.data, self.sizing.buckets()[0], wanted.reshape(-1), self.sizing).images
        return np.asarray(found).reshape(*wanted.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)


@dataclass(frozen=True)
class Photographs:
    """Photographs padded to squares; see `fsljax.detection.data.source.DetectionData`.

    Attributes:
      train, test: of the trained classes.
      side: of the squares, in pixels.
      flip: mirror half of the images of a step.
      novel: the test images, with boxes of classes that are not trained; None: there are none.
    """

    train: DetectionSet
    test: DetectionSet
    side: int
    flip: bool
    novel: DetectionSet | None = None

    @property
    def sizing(self) -> Sizing:
        return Sizing(self.side, self.side, multiple=1)

    @property
    def notes(self) -> tuple[str, ...]:
        return self.train.notes + self.test.notes

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.train.class_names

    def fingerprints(self) -> dict[str, str]:
        test = self.test.fingerprint()
        return {"train": self.train.fingerprint(), "validation": test, "test": test}

    @cached_property
    def index(self) -> BoxIndex:
        """The boxes of the training images, scaled as these are."""
        data, most = self.train, max(self.train.most_boxes, 1)
        boxes, labels = np.zeros((len(data), most, 4), np.float32), np.zeros((len(data), most), np.int32)
        mask, difficult = np.zeros((len(data), most), bool), np.zeros((len(data), most), bool)
        sizes = np.array([self.sizing.scaled(size) for size in data.sizes.tolist()], np.int32)
        for row, own in enumerate(data.boxes):
            count = len(own)
            boxes[row, :count] = own * np.tile(self.sizing.scale(data.sizes[row].tolist()), 2)
            labels[row, :count], mask[row, :count] = data.labels[row], True
            difficult[row, :count] = data.difficult[row]
        return BoxIndex(Truths(boxes, labels, mask, difficult), sizes)  # type: ignore[arg-type]

    def training_data(self) -> TrainingData:
        return TrainingData(Pixels(self.train, self.sizing), self.index)  # type: ignore[arg-type]

    def draw(
        self, key: jax.Array, run_key: jax.Array, step: jax.Array | int, index: BoxIndex, count: int
    ) -> DetectionBatch:
        rows = shuffled_rows(run_key, step, len(index.sizes), count)
        truths, sizes = jax.tree.map(lambda of: jnp.asarray(of)[rows], index)
        return DetectionBatch(rows, None, truths, sizes)

    def seen(self, key: jax.Array, batch: DetectionBatch, inputs: jax.Array) -> LabelledImages:
        truths, sizes = batch.truths, batch.sizes
        assert sizes is not None
        if self.flip:
            inputs, truths = flip_some(key, inputs, truths, sizes)
        return LabelledImages(inputs.astype(jnp.float32) / 255, truths, sizes)

    def labelled_images(self, key: jax.Array, data: TrainingData, count: int) -> Iterator[LabelledImages]:
        rows = np.asarray(jax.random.permutation(key, len(self.train)))[:count]
        for start in range(0, len(rows), _IMAGES_A_BATCH):
            # The last batch is filled up with other images: one shape is compiled.
            chosen = np.resize(np.roll(rows, -start), _IMAGES_A_BATCH)
            held: Any = data.inputs
            pixels = np.asarray(held[chosen]) if isinstance(held, jax.Array) else read(held, chosen)
            truths, sizes = jax.tree.map(lambda of, at=chosen: jnp.asarray(np.asarray(of)[at]), self.index)
            yield LabelledImages(jnp.asarray(pixels, jnp.float32) / 255, truths, sizes)

    def test_images(
        self, count: int, seed: int, classes: np.ndarray | None = None, *, training: bool = False
    ) -> Iterator[LabelledImages]:
        part = self.train if training else self.test
        bucket = self.sizing.buckets()[0]
        for start in range(0, min(count, len(part)), _IMAGES_A_BATCH):
            rows = np.arange(start, min(start + _IMAGES_A_BATCH, count, len(part)))
            batch = load_batch(part, bucket, rows, self.sizing, batch_size=_IMAGES_A_BATCH)
            filled = len(rows)
            truths = jax.tree.map(lambda of, filled=filled: jnp.asarray(of[:filled]), batch.truths)
            if classes is not None:
                truths = truths._replace(mask=truths.mask & jnp.isin(truths.labels, classes))
            images, sizes = jnp.asarray(batch.images, jnp.float32) / 255, jnp.asarray(batch.sizes)
            yield LabelledImages(images[:filled], truths, sizes[:filled])

    @property
    def novel_images(self) -> NovelPhotographs | None:
        return None if self.novel is None else NovelPhotographs(self.novel, self.sizing)


def load(config: ConfigDict) -> Photographs:
    """The set that `config.data` names.

    Raises:
      UserError: if it is missing or unfit, saying what to do.
    """
    data, novel = config.data, tuple(config.data.novel)
    train, test = (_read(data, split, tuple(data.base)) for split in (data.train_split, data.test_split))
    names = tuple(data.base) or tuple(name for name in train.class_names if name not in novel)
    if both := sorted(set(novel) & set(names)):
        raise UserError(
            f"The class {both[0]} is in config.data.base and in config.data.novel: take it out of one."
        )
    others = None
    if novel:
        # ImageNet is read by class, the others whole.
        held = _read(data, data.test_split, novel) if data.name == "imagenet_loc" and data.base else test
        others = take_classes(held, novel)
    # Objects of other classes are neither background nor to be learned.
    train = take_classes(train, names, others="difficult")
    return Photographs(train, take_classes(test, names), data.image_size, config.train.flip, others)


def _read(data: ConfigDict, split: str, names: tuple[str, ...]) -> DetectionSet:
    """A split; of ImageNet the named classes alone, or all."""
    limit = data.limit or None
    bad = data.drop_bad_boxes
    if data.name == "voc":
        return _read_voc(data, split, limit)
    if not data.path:
        raise UserError(f"config.data.path is empty: give the folder of {data.name}, --config.data.path=DIR.")
    if data.name == "coco":
        return coco.load(data.path, split, limit=limit, drop_bad_boxes=bad)
    which: Any = split
    return imagenet_loc.load(data.path, which, class_names=names or None, limit=limit, drop_bad_boxes=bad)


def _read_voc(data: ConfigDict, split: str, limit: int | None) -> DetectionSet:
    """A split of all years there are, of the test part that of the first: 2012's has no boxes."""
    asked = tuple(data.years) if split != "test" else tuple(data.years[:1])
    options = {"limit": limit, "drop_bad_boxes": data.drop_bad_boxes}
    if data.path:
        held = voc.years(data.path)
        chosen = [year for year in asked if year in held] or [None]
        parts = [voc.load_folder(data.path, split, year=year, **options) for year in chosen]
    else:
        parts = [
            voc.load_tfds(year, part, data_dir=data.data_dir or None, **options)
            for year in asked
            for part in (("train", "validation") if split == "trainval" else (split,))
        ]
    joined = parts[0]
    for part in parts[1:]:
        joined = join(joined, part)
    return joined
