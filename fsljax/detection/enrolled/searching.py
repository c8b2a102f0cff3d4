"""Detects objects of enrolled classes in images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from numbers import Integral
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from fsljax.data.labels import Label, label_array
from fsljax.data.user_images import Images
from fsljax.detection.config import Config
from fsljax.detection.data.padded_images import padded_batches
from fsljax.detection.data.structures import Detections
from fsljax.detection.enrolled.arguments import check_search, enrolled_labels
from fsljax.detection.enrolled.classes import Classes
from fsljax.detection.enrolled.comparison import Comparison, detected
from fsljax.detection.enrolled.looking import Space, seen_without_boxes
from fsljax.detection.model.inference import Suppression, suppression_of
from fsljax.errors import UserError


class Detected(NamedTuple):
    """Detections in `n` images, in order of decreasing score within each.

    Attributes:
      boxes: n arrays, float32 `[found, 4]`, `[y_min, x_min, y_max, x_max]` in pixels of the upright image.
      scores: n arrays, float32 `[found]`, probabilities over background and the enrolled classes.
      labels: n arrays `[found]`, labels as enrolled.
    """

    boxes: list[np.ndarray]
    scores: list[np.ndarray]
    labels: list[np.ndarray]


def search(
    space: Space,
    config: Config,
    known: Classes,
    images: Images,
    labels: Label | Iterable[Label] | None,
    threshold: float,
    most: int,
) -> Detected:
    """Finds objects of classes.

    Args:
      space, config: of the detector.
      known: the classes.
      images, labels, threshold, most: as of `fsljax.api.Detector.detect`.

    Raises:
      UserError: as there.
    """
    if not known.representatives:
        raise UserError("No class is enrolled: call enroll(images, boxes, labels) first.")
    check_search(threshold, most)
    everything = list(known.representatives)
    if labels is None:
        chosen = everything
    else:
        asked: list[Any] = [labels] if isinstance(labels, str | Integral) else list(cast(Any, labels))
        chosen = enrolled_labels(asked, everything)
    if not chosen:
        raise UserError("There are no labels to look for: give at least one, or None for all.")
    names, found = label_array(chosen), Detected([], [], [])
    compared = known.compared(chosen, space.enrollment)
    suppression = suppression_of(config.eval, keep=int(most))
    for boxes, scores, numbers in _objects_in(space, config, images, compared, suppression):
        good = scores >= threshold
        found.boxes.append(boxes[good])
        found.scores.append(scores[good])
        found.labels.append(names[numbers[good]])
    return found


def _objects_in(
    space: Space, config: Config, images: Images, compared: Comparison, suppression: Suppression
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each image: boxes `[n, 4]` in its pixels as it was given, scores, numbers of classes."""
    for batch in padded_batches(images, config.data, space.side):
        seen = seen_without_boxes(space, batch)
        of_batch: Detections = jax.device_get(detected(seen, compared, suppression))
        # What fills the batch comes last.
        for scale, of_image in zip(batch.scales, of_batch.of_images(), strict=False):
            boxes, scores, numbers = map(np.asarray, of_image[:3])
            yield boxes / scale, scores, numbers
