"""Few-shot detection episodes of a data set's images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fsljax.detection.data.episode_file import SHOTS_IN_EPISODES, DetectionEpisodes, of_queries
from fsljax.detection.data.set_operations import check_names, images_of_classes
from fsljax.detection.data.structures import DetectionSet, GroundTruth, pad_ground_truth
from fsljax.errors import UserError, first_few

_TRIES = 100


def make_episodes(
    data: DetectionSet,
    *,
    classes: Sequence[str] | None = None,
    count: int = 500,
    seed: int = 0,
    way: int = 5,
    shots: int = SHOTS_IN_EPISODES,
    queries_per_class: int = 10,
) -> DetectionEpisodes:
    """Makes episodes in which no image comes twice.

    A support is an image and one box of its class; the ground truth of a query is all its boxes of the
    episode's classes. An episode depends on its number and the seed, and not on how many there are.

    Args:
      data: images with boxes.
      classes: names of the classes to choose from; None: all.
      count: of episodes.
      seed: another seed gives other episodes.
      way, shots, queries_per_class: of an episode.

    Raises:
      UserError: a class is unknown, or too few classes are in enough images.
    """
    names = data.class_names if classes is None else tuple(classes)
    check_names(names, data.class_names)
    images_of = images_of_classes(data)
    each = shots + queries_per_class
    able = [c for c in map(data.class_names.index, names) if len(images_of[c]) >= each]
    if len(able) < way:
        raise UserError(
            f"An episode needs {each} images ({shots} supports and {queries_per_class} queries) of each of "
            f"{way} classes, but only {len(able)} of the {len(names)} classes are in that many images"
            + (f" ({first_few([data.class_names[c] for c in able])})" if able else "")
            + ". Ask for fewer shots, queries or classes."
        )
    made = [
        _one_episode(np.random.default_rng([seed, number]), data, images_of, able, way, shots, each)
        for number in range(count)
    ]
    chosen = np.stack([classes for classes, _, _ in made]).astype(np.int32)
    supports = np.stack([rows[:, :shots] for _, rows, _ in made])
    queries = np.stack([rows[:, shots:].reshape(-1) for _, rows, _ in made])
    ids = np.array(data.ids)
    return DetectionEpisodes(
        kind="images",
        seed=seed,
        content=data.fingerprint(),
        options={},
        class_names=data.class_names,
        classes=chosen,
        support=ids[supports],
        support_boxes=np.stack([boxes for _, _, boxes in made]),
        query=ids[queries],
        ground_truth=_ground_truth(data, chosen, queries),
    )


def _one_episode(
    random: np.random.Generator,
    data: DetectionSet,
    images_of: Sequence[np.ndarray],
    able: Sequence[int],
    way: int,
    shots: int,
    each: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes `[way]`, rows of their images `[way, each]`, and the supports' boxes `[way, shots, 4]`."""
    for _ in range(_TRIES):
        classes = random.choice(able, way, replace=False)
        rows = _distinct_images(random, [images_of[c] for c in classes], each)
        if rows is not None:
            boxes = [
                [_box_of(random, data, int(row), int(c)) for row in of_class[:shots]]
                for c, of_class in zip(classes, rows, strict=True)
            ]
            return classes, rows, np.array(boxes, np.float32)
    raise UserError(
        f"None of {_TRIES} draws of {way} classes gave {each} images per class without using an image twice: "
        "the classes share too many of their images. Ask for fewer shots, queries or classes."
    )


def _distinct_images(
    random: np.random.Generator, images_of: Sequence[np.ndarray], each: int
) -> np.ndarray | None:
    """So many images of each class, none twice, `[way, each]`; the rarest class chooses first."""
    taken: set[int] = set()
    rows = np.zeros((len(images_of), each), np.int64)
    for place in sorted(range(len(images_of)), key=lambda number: len(images_of[number])):
        free = [row for row in images_of[place].tolist() if row not in taken]
        if len(free) < each:
            return None
        rows[place] = random.choice(free, each, replace=False)
        taken.update(rows[place].tolist())
    return rows


def _box_of(random: np.random.Generator, data: DetectionSet, row: int, label: int) -> np.ndarray:
    return data.boxes[row][random.choice(np.flatnonzero((data.labels[row] == label) & ~data.difficult[row]))]


def _ground_truth(data: DetectionSet, classes: np.ndarray, queries: np.ndarray) -> GroundTruth:
    """Of the queries' images `[episodes, queries]`, the boxes of the episode's classes `[episodes, way]`."""
    boxes, labels, difficult = [], [], []
    for of_episode, rows in zip(classes, queries.tolist(), strict=True):
        for row in rows:
            kept = np.flatnonzero(np.isin(data.labels[row], of_episode))
            boxes.append(data.boxes[row][kept])
            labels.append(np.argmax(data.labels[row][kept, None] == of_episode, axis=1))
            difficult.append(data.difficult[row][kept])
    return of_queries(pad_ground_truth(boxes, labels, difficult), queries.shape)
