"""The regions of the images of episodes. A photograph that comes in many episodes is looked at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import numpy as np

from fsljax.data.batches import batches_of
from fsljax.detection.config import EnrollOptions
from fsljax.detection.data.episode_file import DetectionEpisodes, query_ground_truth, support_ground_truth
from fsljax.detection.data.novel_photographs import NovelPhotographs
from fsljax.detection.data.source import NovelImages
from fsljax.detection.data.structures import GroundTruth, ImageBatch
from fsljax.detection.evaluation.episode_detections import examine_all, regions_of, support_of
from fsljax.detection.model.enroll import Support, representative_rows
from fsljax.detection.model.regions import Examined
from fsljax.detection.model.trained import TrainedDetector

Tree = TypeVar("Tree")


class EpisodeRegions(NamedTuple):
    """A few episodes as detectors see them.

    Attributes:
      numbers: int `[g]` of the episodes.
      real: how many of them are no fill.
      ground_truth: of the queries, `[g, queries, t, …]`.
      regions: of supports and queries, by the detector's name.
    """

    numbers: np.ndarray
    real: int
    ground_truth: GroundTruth
    regions: dict[str, tuple[Support, Examined]]


def regions_of_episodes(
    detectors: Mapping[str, TrainedDetector],
    novel: NovelImages,
    episodes: DetectionEpisodes,
    *,
    distractors: bool,
    views: int,
    fine_tuned: bool,
) -> Iterator[EpisodeRegions]:
    """All episodes, a few at a time.

    Args:
      detectors: by name.
      novel: the images.
      episodes: in pixels of the images that a network sees.
      distractors: as config.eval has it.
      views: of each support beside itself, as `regions_of` has them.
      fine_tuned: all regions of supports are needed, for classes learn from them; else of photographs only
        those are kept of which representatives are made, a hundredth of the memory.
    """
    at_once = batches_of(len(episodes), novel.episodes_at_once)
    if isinstance(novel, NovelPhotographs) and not distractors:
        seen = {
            name: _SeenPhotographs(detector, novel, views, fine_tuned) for name, detector in detectors.items()
        }
        for numbers, count in at_once:
            truths = support_ground_truth(episodes, numbers), query_ground_truth(episodes, numbers)
            regions = {name: of_detector.of(episodes, numbers, *truths) for name, of_detector in seen.items()}
            yield EpisodeRegions(numbers, count, truths[1], regions)
        return
    for numbers, count in at_once:
        support, query = novel.images(episodes, numbers, distractors)
        regions = {
            name: regions_of(detector, support, query, novel.images_at_once, views)
            for name, detector in detectors.items()
        }
        yield EpisodeRegions(numbers, count, query.ground_truth, regions)


@dataclass(frozen=True, eq=False)
class _SeenPhotographs:
    """What a detector saw in photographs with the boxes that were given, kept for the episodes to come."""

    detector: TrainedDetector
    novel: NovelPhotographs
    views: int
    fine_tuned: bool
    supports: dict[bytes, Support] = field(default_factory=dict)
    queries: dict[bytes, Examined] = field(default_factory=dict)

    def of(
        self, episodes: DetectionEpisodes, numbers: np.ndarray, support: GroundTruth, query: GroundTruth
    ) -> tuple[Support, Examined]:
        """Supports `[g, way, shots, …]` and queries `[g, queries, …]` of episodes, by their ground truth."""

        def look_at_support(batch: ImageBatch) -> Support:
            seen = support_of(self.detector, batch, self.novel.images_at_once, self.views)
            return seen if self.fine_tuned else _of_representatives(seen, self.detector.config.eval.enrol)

        def look_at_query(batch: ImageBatch) -> Examined:
            return examine_all(self.detector, batch, self.novel.images_at_once)

        return (
            self._looked_up(self.supports, look_at_support, episodes.support[numbers], support),
            self._looked_up(self.queries, look_at_query, episodes.query[numbers], query),
        )

    def _looked_up(
        self,
        known: dict[bytes, Tree],
        look: Callable[[ImageBatch], Tree],
        ids: np.ndarray,
        truth: GroundTruth,
    ) -> Tree:
        """Of photographs `[…]` with their boxes `[…, t, 4]`, those that are not known being looked at."""
        flat: GroundTruth = jax.tree.map(
            lambda part: np.asarray(part).reshape(ids.size, *part.shape[ids.ndim :]), truth
        )
        names = [str(name) for name in ids.flat]
        keys = [
            name.encode() + boxes.tobytes() + mask.tobytes()
            for name, boxes, mask in zip(names, flat.boxes, flat.mask, strict=True)
        ]
        missing = list({key: place for place, key in enumerate(keys) if key not in known}.values())
        for rows, count in batches_of(len(missing), self.novel.images_at_once) if missing else ():
            places = np.array(missing)[rows]
            images, sizes = self.novel.photographs(np.array(names)[places])
            of_images: GroundTruth = jax.tree.map(lambda part, at=places: part[at][None, None], flat)
            seen = jax.device_get(look(ImageBatch(images[None, None], of_images, sizes[None, None])))
            for number, place in enumerate(places[:count]):
                known[keys[place]] = jax.tree.map(lambda part, at=number: part[0, 0, at], seen)
        return _stacked([known[key] for key in keys], ids.shape)


def _of_representatives(support: Support, options: EnrollOptions) -> Support:
    """The regions `[…, per_shot, …]` alone of which representatives are made; of `[…, p, …]`."""
    around = support.valid.shape[:-1]
    flat: Support = jax.tree.map(lambda part: part.reshape(-1, *part.shape[len(around) :]), support)
    rows = jax.vmap(partial(representative_rows, per_shot=options.per_shot, overlap=options.overlap))(
        flat.boxes, flat.valid
    )
    kept: Support = jax.tree.map(lambda part: jax.vmap(lambda of_image, at: of_image[at])(part, rows), flat)
    # The support box stands where too few regions are near to it; it is to stand there once more, not be one.
    kept = kept._replace(valid=kept.valid.at[:, 1:].set(kept.valid[:, 1:] & (rows[:, 1:] != 0)))
    return jax.tree.map(lambda part: part.reshape(*around, *part.shape[1:]), kept)  # type: ignore[no-any-return]


def _stacked(trees: Sequence[Tree], shape: tuple[int, ...]) -> Tree:
    joined: Tree = jax.tree.map(lambda *parts: np.stack(parts).reshape(*shape, *parts[0].shape), *trees)
    return joined
