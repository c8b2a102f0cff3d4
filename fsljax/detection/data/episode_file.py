"""Few-shot detection episodes in a file, so that anyone can run the same ones by any method."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.detection.data.formats.episode_checks import check_episodes
from fsljax.detection.data.structures import GroundTruth, pad_ground_truth
from fsljax.errors import UserError
from fsljax.storage.json_files import DIGEST, digest_of, read_json, unsealed
from fsljax.storage.replacing import replacing

FORMAT = 1
SHOTS_IN_EPISODES = 10  # supports of a class, where episodes are made here
Json = Mapping[str, Any]


class DamagedEpisodesError(UserError):
    """A file whose episodes cannot be told: it may be written anew."""


@dataclass(frozen=True)
class DetectionEpisodes:
    """Episodes of one way, with so many supports a class and so many queries.

    The first supports of a class are those of fewer shots, and the first episodes those of a shorter test.

    Attributes:
      kind: "scenes", which are drawn by key, or "images" of a data set.
      seed: from which they were made.
      content: what tells the drawings or the data set from others, a SHA-256.
      options: how scenes look, as `scenes.composition.SceneOptions` takes it; empty for images.
      class_names: those of the drawings or the data set, numbered by `classes`.
      classes: int32 `[episodes, way]`, an episode's classes; labels count these.
      support: uint32 `[episodes, way, shots, 2]`, the keys of scenes; or strings `[episodes, way, shots]`,
        ids of images.
      support_boxes: float32 `[episodes, way, shots, 4]`, one box of the class in each.
      query: uint32 `[episodes, queries, 2]` or strings `[episodes, queries]`; those of a class lie together,
        in the order of the classes, and hold the class at least once.
      ground_truth: NumPy arrays `[episodes, queries, t, …]`, all boxes of the episode's classes, labelled
        0 … way − 1.
    """

    kind: Literal["scenes", "images"]
    seed: int
    content: str
    options: Json
    class_names: tuple[str, ...]
    classes: np.ndarray
    support: np.ndarray
    support_boxes: np.ndarray
    query: np.ndarray
    ground_truth: GroundTruth

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def way(self) -> int:
        return self.classes.shape[1]

    @property
    def shots(self) -> int:
        return self.support_boxes.shape[2]


def support_ground_truth(episodes: DetectionEpisodes, numbers: Sequence[int] | np.ndarray) -> GroundTruth:
    """The box of each support, `[g, way, shots, 1, …]`; labels are those of the classes in their episode."""
    boxes = episodes.support_boxes[numbers][..., None, :]
    labels = np.broadcast_to(np.arange(episodes.way)[:, None, None], boxes.shape[:-1])
    return GroundTruth(boxes, labels, np.ones(boxes.shape[:-1], bool))


def query_ground_truth(episodes: DetectionEpisodes, numbers: Sequence[int] | np.ndarray) -> GroundTruth:
    """Of the queries, on the device, `[g, queries, t, …]`."""
    boxes: GroundTruth = jax.tree.map(lambda part: jnp.asarray(part[numbers]), episodes.ground_truth)
    return boxes


def write_episodes(path: Path, episodes: DetectionEpisodes) -> None:
    """Writes episodes as JSON, one a line, in one step: a reader sees the old file or the whole new one.

    A support is `[source, box]` and a query `[source, [[label, difficult, box], …]]`, where a source is the
    two words of a scene's key or an image's id, and a box is `[y_min, x_min, y_max, x_max]` in pixels.
    `digest` is of all the rest.
    """
    header: dict[str, object] = {
        "format": FORMAT,
        "kind": episodes.kind,
        "seed": episodes.seed,
        "content": episodes.content,
        "options": dict(episodes.options),
        "way": episodes.way,
        "shots": episodes.shots,
        "queries": episodes.query.shape[1],
        "class_names": list(episodes.class_names),
    }
    written = [_as_json(episodes, number) for number in range(len(episodes))]
    header[DIGEST] = digest_of(header | {"episodes": written})
    lines = ",\n".join(map(_compact, written))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        unfinished.write_text(f'{_compact(header)[:-1]},"episodes":[\n{lines}\n]}}\n', encoding="utf-8")


def read_episodes(
    path: Path, *, count: int | None = None, shots: int | None = None, content: str | None = None
) -> DetectionEpisodes:
    """Reads episodes that `write_episodes` wrote.

    Args:
      path: of the file.
      count: so many of the first episodes; None: all.
      shots: so many of the first supports of each class; None: all.
      content: of the drawings or the data set at hand, to be compared with the file's; None: not compared.

    Raises:
      DamagedEpisodesError: the file is no file of episodes, or was changed after it was written.
      UserError: it is missing, of another format, holds too few, or was made of other data.
    """
    stored = _read(path)
    try:
        stored = unsealed(stored)
        check_episodes(stored, count)
    except (ValueError, UserError, RecursionError, OverflowError) as error:
        raise DamagedEpisodesError(
            f"The episodes {path} are damaged ({str(error).rstrip('.')}). Regenerate them."
        ) from error
    stored_count, stored_shots = len(stored["episodes"]), stored["shots"]
    if content is not None and content != stored["content"]:
        raise UserError(
            f"The episodes {path} were generated from different data: their content differs. Give the data "
            "they were generated from, or name another file, where episodes of your data will be written."
        )
    _check_asked(path, "episodes", count, stored_count)
    _check_asked(path, "supports of a class", shots, stored_shots)
    return _from_json(
        stored, stored_count if count is None else count, stored_shots if shots is None else shots
    )


def _read(path: Path) -> Json:
    """What the JSON holds, of a format that this version reads."""
    try:
        stored = read_json(path)
    except FileNotFoundError as error:
        raise UserError(f"The episodes {path} cannot be read: {error.strerror}.") from error
    except UserError as error:
        raise DamagedEpisodesError(f"{path} is not an episodes file: {error} Regenerate it.") from error
    if not isinstance(stored, dict) or type(stored.get("format")) is not int:
        raise DamagedEpisodesError(
            f"{path} is not an episodes file: it does not state its format. Regenerate it."
        )
    if stored["format"] != FORMAT:
        raise UserError(
            f"The episodes {path} are in format {stored['format']}, but this version of fsljax reads format "
            f"{FORMAT}. Regenerate them, or use the version that wrote them."
        )
    return stored


def of_queries(flat: GroundTruth, shape: tuple[int, int]) -> GroundTruth:
    """NumPy arrays `[episodes · queries, t, …]` as `[episodes, queries, t, …]`."""
    divided: GroundTruth = jax.tree.map(lambda part: part.reshape(*shape, *part.shape[1:]), flat)
    return divided


def _check_asked(path: Path, what: str, asked: int | None, stored: int) -> None:
    if asked is not None and not 1 <= asked <= stored:
        raise UserError(
            f"The file {path} holds {stored:,} {what}; {asked:,} were asked for. Ask for 1 to {stored:,}."
        )


def _compact(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"))


def _numbers(box: np.ndarray) -> list[float]:
    """Whole numbers as such, others to a hundredth of a pixel."""
    return [int(side) if side == int(side) else round(side, 2) for side in box.tolist()]


def _as_json(episodes: DetectionEpisodes, number: int) -> Json:
    of_episode: GroundTruth = jax.tree.map(lambda part: part[number], episodes.ground_truth)
    objects = [
        [
            [int(label), int(difficult), _numbers(np.asarray(box))]
            for label, difficult, box in zip(
                query.labels, np.asarray(query.difficult), query.boxes, strict=True
            )
        ]
        for query in of_episode.of_images()
    ]
    return {
        "classes": episodes.classes[number].tolist(),
        "supports": [
            [[source, _numbers(box)] for source, box in zip(sources.tolist(), boxes, strict=True)]
            for sources, boxes in zip(episodes.support[number], episodes.support_boxes[number], strict=True)
        ],
        "queries": [list(query) for query in zip(episodes.query[number].tolist(), objects, strict=True)],
    }


def _from_json(stored: Json, count: int, shots: int) -> DetectionEpisodes:
    chosen = stored["episodes"][:count]
    sources = np.uint32 if stored["kind"] == "scenes" else np.str_
    supports = [[of_class[:shots] for of_class in episode["supports"]] for episode in chosen]
    queries = [episode["queries"] for episode in chosen]
    objects = [of_query for episode in queries for _, of_query in episode]
    flat = pad_ground_truth(
        [np.array([box for _, _, box in of_query], np.float32).reshape(-1, 4) for of_query in objects],
        [np.array([label for label, _, _ in of_query], np.int32) for of_query in objects],
        [np.array([difficult for _, difficult, _ in of_query], bool) for of_query in objects],
    )
    return DetectionEpisodes(
        kind=stored["kind"],
        seed=stored["seed"],
        content=stored["content"],
        options=stored["options"],
        class_names=tuple(stored["class_names"]),
        classes=np.array([episode["classes"] for episode in chosen], np.int32),
        support=np.array([[[s for s, _ in of_class] for of_class in e] for e in supports], sources),
        support_boxes=np.array([[[b for _, b in of_class] for of_class in e] for e in supports], np.float32),
        query=np.array([[source for source, _ in episode] for episode in queries], sources),
        ground_truth=of_queries(flat, (count, stored["queries"])),
    )
