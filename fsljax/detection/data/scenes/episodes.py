"""Few-shot detection episodes of scenes: made from a seed, and drawn again from their keys."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, fields
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.config import read
from fsljax.detection.config import SceneOptions
from fsljax.detection.data.episode_file import SHOTS_IN_EPISODES, DetectionEpisodes
from fsljax.detection.data.scenes.composition import Drawings, Scene, draw_scenes
from fsljax.detection.data.scenes.drawings import SceneDrawings
from fsljax.detection.data.structures import GroundTruth
from fsljax.errors import UserError

# Another processor may round a border of ink to the next pixel.
_TOLERANCE = 1.0
_GENERATOR = "threefry2x32"  # whose keys are two words
_OPTIONS = SceneOptions()


def make_episodes(
    drawings: SceneDrawings,
    *,
    count: int = 500,
    seed: int = 0,
    way: int = 5,
    shots: int = SHOTS_IN_EPISODES,
    queries_per_class: int = 10,
    options: SceneOptions = _OPTIONS,
) -> DetectionEpisodes:
    """Makes episodes of novel characters, over clutter of base characters' strokes.

    A support is a scene of the episode's characters and the box of one of the class. An episode depends on
    its number and the seed, and not on how many there are.

    Args:
      drawings: the base and novel characters.
      count: of episodes.
      seed: another seed gives other episodes.
      way, shots, queries_per_class: of an episode.
      options: what scenes look like.

    Raises:
      UserError: there are fewer novel characters than an episode has classes, or one has a blank drawing.
    """
    characters = len(drawings.novel.images)
    if way > characters:
        raise UserError(
            f"A {way}-way episode needs {way} novel characters, but there are {characters}. Ask for fewer."
        )
    firsts = np.repeat(np.arange(way), shots + queries_per_class)

    @jax.jit
    def make(key: jax.Array, novel: Drawings) -> tuple[jax.Array, jax.Array, Scene]:
        class_key, scene_key = jax.random.split(key)
        classes = jax.random.permutation(class_key, characters)[:way].astype(jnp.int32)
        keys = jax.random.split(scene_key, len(firsts))
        # Boxes alone are asked for, so the clutter is never drawn: any will do.
        scenes = draw_scenes(keys, novel, classes, first=classes[firsts], options=options)
        labels = jnp.argmax(scenes.labels[..., None] == classes, axis=-1)
        objects = Scene(jnp.zeros(()), scenes.boxes, labels * scenes.mask, scenes.mask)
        return classes, jax.random.key_data(keys), objects

    key = jax.random.key(seed, impl=_GENERATOR)
    made = [jax.device_get(make(jax.random.fold_in(key, number), drawings.novel)) for number in range(count)]
    classes = np.stack([classes for classes, _, _ in made])
    shape = (count, way, shots + queries_per_class)
    keys = np.stack([keys for _, keys, _ in made]).reshape(*shape, 2)
    boxes, labels, mask = (
        np.stack([getattr(objects, field) for _, _, objects in made]).reshape(
            *shape, options.characters[1], -1
        )
        for field in ("boxes", "labels", "mask")
    )
    if not mask[..., 0, 0].all():
        number, row = (int(index[0]) for index in np.nonzero(~mask[..., 0, 0])[:2])
        name = drawings.novel_names[classes[number, row]]
        raise UserError(f"A drawing of {name} has no ink to put a box around: take it out of the drawings.")

    def queries(of_class: np.ndarray) -> np.ndarray:
        return of_class[:, :, shots:].reshape(count, way * queries_per_class, *of_class.shape[3:])

    return DetectionEpisodes(
        kind="scenes",
        seed=seed,
        content=content_of(drawings),
        options=asdict(options),
        class_names=drawings.novel_names,
        classes=classes,
        support=keys[:, :, :shots],
        support_boxes=boxes[:, :, :shots, 0],
        query=queries(keys),
        ground_truth=GroundTruth(
            queries(boxes),
            queries(labels)[..., 0],
            queries(mask)[..., 0],
            np.zeros_like(queries(mask)[..., 0]),
        ),
    )


def draw_episode(
    drawings: SceneDrawings, episodes: DetectionEpisodes, number: int, *, distractors: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Draws the images of one episode.

    Args:
      drawings: of which the episodes were made.
      episodes: of scenes.
      number: which of them.
      distractors: whether other novel characters are added to the queries; the ground truth stays the same.

    Returns:
      Float images in [0, 1] of the support, `[way, shots, size, size, 1]`, and of the queries,
      `[queries, size, size, 1]`.

    Raises:
      UserError: the scenes that are drawn are not those that the boxes were written of.
    """
    classes = episodes.classes[number]
    options = _options(episodes)
    draw = partial(draw_scenes, drawings=drawings.novel, clutter=drawings.base, options=options)
    allowed = jnp.asarray(classes)
    others = jnp.asarray(np.setdiff1d(np.arange(len(drawings.novel.images)), classes))
    support_keys = episodes.support[number].reshape(-1, 2)
    support = draw(_keys(support_keys), allowed=allowed, first=jnp.repeat(allowed, episodes.shots))
    query_keys = episodes.query[number]
    query = draw(
        _keys(query_keys),
        allowed=allowed,
        distractors=others if distractors else None,
        first=jnp.repeat(allowed, len(query_keys) // episodes.way),
    )
    _check_drawn(support.boxes[:, 0], episodes.support_boxes[number].reshape(-1, 4), number)
    boxes = np.asarray(episodes.ground_truth.boxes[number])
    _check_drawn(query.boxes[:, : boxes.shape[1]], boxes, number)
    size = support.image.shape[1:]
    return support.image.reshape(episodes.way, episodes.shots, *size), query.image


def content_of(drawings: SceneDrawings) -> str:
    """SHA-256 of the drawings that episodes show: novel characters, and the base ones that clutter is of."""
    digest = hashlib.sha256()
    for images in (drawings.novel.images, drawings.base.images):
        digest.update(repr(images.shape).encode())
        digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()


def _options(episodes: DetectionEpisodes) -> SceneOptions:
    if episodes.kind != "scenes":
        raise UserError("These episodes use images of a data set, not generated scenes.")
    unknown = set(episodes.options) - {field.name for field in fields(SceneOptions)}
    try:
        if unknown:
            raise UserError(", ".join(sorted(unknown)))
        return read(SceneOptions, episodes.options, complete=False)
    except UserError as error:
        raise UserError(
            f"The episodes' scenes have options that this version of fsljax does not know ({error}). "
            "Regenerate the episodes."
        ) from error


def _keys(words: np.ndarray) -> jax.Array:
    return jax.random.wrap_key_data(jnp.asarray(words), impl=_GENERATOR)


def _check_drawn(drawn: jax.Array, written: np.ndarray, number: int) -> None:
    if np.abs(np.asarray(drawn) - written).max() > _TOLERANCE:
        raise UserError(
            f"The scenes of episode {number} do not match their stored boxes: the drawings have changed, or "
            "this version of fsljax draws them differently. Regenerate the episodes."
        )
