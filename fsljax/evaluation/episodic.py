"""Few-shot accuracy over many episodes drawn from embeddings that were computed once."""

from __future__ import annotations

import errno
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from fsljax.data.dataset import ImageDataset
from fsljax.data.io.encoded_images import EncodedImages
from fsljax.data.io.files import replacing
from fsljax.data.samplers.episodes import ClassTable, Episodes, class_table, draw_episodes
from fsljax.errors import UserError

_FLOATS_A_CHUNK = 4_000_000
_BATCHES_IN_FLIGHT = 8


@dataclass(frozen=True)
class Setting:
    """A kind of test episode: `way` classes, `shot` support and `queries` query images of each."""

    way: int
    shot: int
    queries: int

    @property
    def name(self) -> str:
        return f"{self.way}way_{self.shot}shot"

    def key(self, key: jax.Array) -> jax.Array:
        """A random key of this setting's own: its episodes don't hang on which others are evaluated."""
        for number in (self.way, self.shot, self.queries):
            key = jax.random.fold_in(key, number)
        return key


def mean_and_ci95(values: np.ndarray) -> tuple[float, float]:
    """Mean over episodes, and the half-width of its 95 % interval: 1.96 standard errors.

    Args:
      values: `[episodes]`, the accuracy of each episode.

    Returns:
      mean and half-width; the half-width of a single episode is NaN, for nothing is known of it.
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return float(values.mean()), float("nan")
    return float(values.mean()), float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))


Classify = Callable[[jax.Array, jax.Array], jax.Array]
"""Names queries `[way, queries, dim]` by a support `[way, shot, dim]`: classes int32 `[way, queries]`."""


def episode_accuracies(
    embeddings: jax.Array | np.ndarray,
    episodes: Episodes,
    *,
    shot: int,
    distance: str = "squared_euclidean",
    classify: Classify | None = None,
) -> np.ndarray:
    """Accuracy in each episode, by the nearest prototype unless another rule is given.

    Args:
      embeddings: `[n, dim]`, of the images that episodes point to.
      episodes: `images` `[episodes, way, shot + queries]`.
      shot: how many of each class's images are its support.
      distance: "squared_euclidean" or "cosine"; the former with a rule of one's own.
      classify: the rule, hashable, for it is compiled in; None: `predict`.

    Returns:
      float64 `[episodes]`.

    Raises:
      ValueError: if `distance` has another name, or `shot` leaves no support or no queries.
    """
    embeddings = jnp.asarray(embeddings, jnp.float32)
    if distance == "squared_euclidean":
        # Distances don't change when all points move: near the origin the products keep their digits.
        embeddings = embeddings - jnp.mean(embeddings, axis=0)
    images = np.asarray(episodes.images)
    count, way, drawn = images.shape
    chunk = max(1, min(count, _FLOATS_A_CHUNK // (way * drawn * embeddings.shape[1])))
    accuracies = [
        _chunk_accuracies(embeddings, _filled(images[start : start + chunk], chunk), shot, distance, classify)
        for start in range(0, count, chunk)
    ]
    return np.concatenate([np.asarray(part) for part in accuracies])[:count].astype(np.float64)


def _filled(images: np.ndarray, count: int) -> np.ndarray:
    """Repeats the first episode up to `count`, so that the last chunk needs no compilation of its own."""
    missing = count - len(images)
    return np.concatenate([images, np.repeat(images[:1], missing, axis=0)]) if missing else images


@partial(jax.jit, static_argnames=("shot", "distance", "classify"))
def _chunk_accuracies(
    embeddings: jax.Array, images: jax.Array, shot: int, distance: str, classify: Classify | None
) -> jax.Array:
    def accuracy(rows: jax.Array) -> jax.Array:
        return jnp.mean(predict(embeddings[rows], shot=shot, distance=distance, classify=classify)[1])

    return jax.vmap(accuracy)(images)


def predict(
    embeddings: jax.Array,
    *,
    shot: int,
    distance: str = "squared_euclidean",
    classify: Classify | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Classifies the queries of one episode by the nearest prototype, or by the rule given.

    Args:
      embeddings: `[way, shot + queries, dim]`, near the origin (see `episode_accuracies`).
      shot: how many of each class's are its support.
      distance: "squared_euclidean" or "cosine".
      classify: another rule.

    Returns:
      predicted classes int32 and whether they are right, `[way, queries]` each.

    Raises:
      ValueError: if `distance` has another name, or `shot` leaves no support or no queries.
    """
    if distance not in ("squared_euclidean", "cosine"):
        raise ValueError(f"distance is {distance!r}; it can be 'squared_euclidean' or 'cosine'.")
    way, drawn, _ = embeddings.shape
    if not 0 < shot < drawn:
        raise ValueError(f"shot is {shot}; of {drawn} images a class it must leave support and queries.")
    queries = embeddings[:, shot:]
    if classify is not None:
        predicted = classify(embeddings[:, :shot], queries)
        return predicted, predicted == jnp.arange(way)[:, None]
    prototypes = jnp.mean(embeddings[:, :shot], axis=1)
    scores = jnp.einsum("wqd,cd->wqc", queries, prototypes, precision="highest")
    if distance == "cosine":
        # The query's own length scales all its scores alike and cannot change their order.
        scores = scores * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(prototypes), -1), 1e-30))
    else:
        scores = scores - 0.5 * jnp.sum(jnp.square(prototypes), axis=-1)
    predicted = jnp.argmax(scores, axis=-1)
    return predicted, predicted == jnp.arange(way)[:, None]


def sample(key: jax.Array, data: ImageDataset, setting: Setting, count: int) -> Episodes:
    """Draws `count` episodes of a setting from a data set.

    Returns:
      `Episodes` of NumPy arrays, `images` `[count, way, shot + queries]`.

    Raises:
      UserError: if the data set has too few classes or images.
    """
    check_setting(data, setting)
    drawn = _draw(key, jax.tree.map(jnp.asarray, class_table(data.labels)), setting, count)
    return Episodes(np.asarray(drawn.classes), np.asarray(drawn.images))


@partial(jax.jit, static_argnames=("setting", "count"))
def _draw(key: jax.Array, table: ClassTable, setting: Setting, count: int) -> Episodes:
    return draw_episodes(key, table, count, way=setting.way, shot=setting.shot, queries=setting.queries)


def check_setting(data: ImageDataset, setting: Setting, *, part: str = "test", where: str = "eval") -> None:
    """Raises a UserError if `data` cannot give episodes of this setting."""
    # The test is the only part with several settings, and its fields are named so.
    plural = "s" if where == "eval" else ""
    way, shot, queries = (
        f"config.{where}.way{plural}",
        f"config.{where}.shot{plural}",
        f"config.{where}.queries",
    )
    for name, value in ((way, setting.way), (shot, setting.shot), (queries, setting.queries)):
        if value < 1:
            raise UserError(f"{name} is {value}; it must be 1 or more.")
    if setting.way < 2:
        raise UserError(f"{way} is 1; an episode needs two classes to tell apart.")
    if setting.way > data.num_classes:
        raise UserError(
            f"{setting.way}-way episodes need {setting.way} classes, but the {part} part has "
            f"{data.num_classes}: lower {way} to {data.num_classes} or less, "
            "or give more classes."
        )
    counts = data.class_counts()
    need = setting.shot + setting.queries
    if np.min(counts) < need:
        smallest = int(np.argmin(counts))
        raise UserError(
            f"shot {setting.shot} + queries {setting.queries} need {need} images of a class, but "
            f"{data.class_names[smallest]!r} in the {part} part has {counts[smallest]}: "
            f"lower {shot} or {queries}, or give that class more images."
        )


def write_episodes(path: Path, data: ImageDataset, episodes: dict[Setting, Episodes]) -> None:
    """Writes episodes to an .npz file, with the fingerprint of the data set they were drawn from."""
    arrays: dict[str, np.ndarray] = {"fingerprint": np.array(data.fingerprint())}
    for setting, drawn in episodes.items():
        prefix = f"{setting.way}_{setting.shot}_{setting.queries}"
        arrays[f"{prefix}/classes"] = np.asarray(drawn.classes, np.int32)
        arrays[f"{prefix}/images"] = np.asarray(drawn.images, np.int32)
    check_writable(path)
    try:
        with replacing(path) as unfinished, unfinished.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise _unwritable(path, error) from error


def check_writable(path: Path) -> None:
    """Raises a UserError if no file can be written at `path`; makes the folder if need be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"The episodes cannot be written to {path}: {error.strerror or error}.")


def read_episodes(path: Path, data: ImageDataset) -> dict[Setting, Episodes]:
    """Reads what `write_episodes` wrote.

    Raises:
      UserError: if the file does not exist, is no such file, or belongs to another data set.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            contents = dict(arrays)
    except FileNotFoundError:
        raise UserError(f"There is no file of episodes at {path} (config.eval.read_episodes).") from None
    except Exception as error:  # zipfile, zlib and NumPy each raise their own for a damaged file
        raise UserError(
            f"{path} is no file of episodes, or damaged: write one with --config.eval.write_episodes=PATH."
        ) from error
    if "fingerprint" not in contents:
        raise UserError(f"{path} is no file of episodes: write one with --config.eval.write_episodes=PATH.")
    if str(contents["fingerprint"]) != data.fingerprint():
        raise UserError(
            f"The episodes in {path} were drawn from another data set: evaluate with the data and image size "
            "they were written with, or write them anew with --config.eval.write_episodes."
        )
    prefixes = dict.fromkeys(name.split("/")[0] for name in contents if name.endswith("/images"))
    try:
        episodes = {
            Setting(*map(int, prefix.split("_"))): Episodes(
                contents[f"{prefix}/classes"], contents[f"{prefix}/images"]
            )
            for prefix in prefixes
        }
    except (KeyError, TypeError, ValueError):
        episodes = {}
    if not episodes or not all(_fits(drawn, setting, data) for setting, drawn in episodes.items()):
        raise UserError(f"{path} holds no episodes, or damaged ones: write it anew.")
    return episodes


def _fits(episodes: Episodes, setting: Setting, data: ImageDataset) -> bool:
    images = np.asarray(episodes.images)
    return (
        images.ndim == 3
        and images.shape[1:] == (setting.way, setting.shot + setting.queries)
        and min(setting.way - 1, setting.shot, setting.queries, len(images)) > 0
        and np.issubdtype(images.dtype, np.integer)
        and bool((images >= 0).all() and (images < len(data)).all())
    )


def embed_in_batches(
    embed: Callable[[np.ndarray], jax.Array], images: np.ndarray | EncodedImages, *, batch: int = 128
) -> np.ndarray:
    """Embeds a data set in batches of one shape, which are read one after another.

    Args:
      embed: compiled; uint8 `[batch, height, width, channel]` to `[batch, dim]`.
      images: uint8 `[n, height, width, channel]`; mapped from a file or encoded, they stay so.
      batch: images at a time.

    Returns:
      float32 `[n, dim]`.
    """
    pending: deque[jax.Array] = deque()
    embeddings: list[np.ndarray] = []
    for part in _batches(images, batch):
        pending.append(embed(part))
        # A batch is held until it is embedded: so many may be on the device or on their way to it.
        if len(pending) > _BATCHES_IN_FLIGHT:
            embeddings.append(np.asarray(pending.popleft(), np.float32))
    embeddings += [np.asarray(part, np.float32) for part in pending]
    return np.concatenate(embeddings)[: len(images)]


def _batches(images: np.ndarray | EncodedImages, batch: int) -> Iterator[np.ndarray]:
    for start in range(0, len(images), batch):
        part = np.asarray(images[start : start + batch])
        if len(part) < batch:
            part = np.concatenate([part, np.zeros((batch - len(part), *part.shape[1:]), part.dtype)])
        yield part
